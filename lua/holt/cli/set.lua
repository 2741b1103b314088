--- holt set: see holt.cli.objects.
return require("holt.cli.objects").set

--- holt get: see holt.cli.objects.
return require("holt.cli.objects").get

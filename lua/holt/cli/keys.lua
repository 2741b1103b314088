--- holt keys: see holt.cli.objects.
return require("holt.cli.objects").keys

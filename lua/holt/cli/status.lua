--- holt status: see holt.cli.objects.
return require("holt.cli.objects").status

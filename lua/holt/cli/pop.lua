--- holt pop: see holt.cli.objects.
return require("holt.cli.objects").pop

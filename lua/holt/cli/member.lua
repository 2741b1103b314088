--- holt member: see holt.cli.objects.
return require("holt.cli.objects").member

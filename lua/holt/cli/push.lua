--- holt push: see holt.cli.objects.
return require("holt.cli.objects").push

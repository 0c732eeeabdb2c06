package main

import (
	"io"
	"testing"

	"wsrelay/options"
	"wsrelay/packaging/manual"
)

func TestManual_KnowsEveryOption(t *testing.T) {
	k, err := parser(&cli{}, &options.Sources{}, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	manual.Test(t, k.Model, "packaging")
}

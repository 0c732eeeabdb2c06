package wsreceive

import (
	"io"
	"testing"

	"wsrelay/test/manual"
)

func TestManual_KnowsEveryOption(t *testing.T) {
	k, err := parser(&commandLine{}, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	manual.Test(t, k.Model, "../../../packaging")
}

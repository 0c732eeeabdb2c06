package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	compose "github.com/compose-spec/compose-go/v2/types"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const examples = "../../examples/containers/"

func TestCompose_FitsTheSchema(t *testing.T) {
	text, err := os.ReadFile(examples + "compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text []byte) error {
		_, err := loader.LoadWithContext(t.Context(), compose.ConfigDetails{
			WorkingDir: examples, ConfigFiles: []compose.ConfigFile{{Filename: "compose.yaml", Content: text}},
		}, func(o *loader.Options) { o.SetProjectName("example", true) })
		return err
	}
	if err := load(text); err != nil {
		t.Error(err)
	}
	if load(bytes.Replace(text, []byte("read_only: true"), []byte("read_onyl: true"), 1)) == nil {
		t.Error("a mistyped word passes: this test finds nothing")
	}
}

func TestKubernetes_FitsTheAPI(t *testing.T) {
	text, err := os.ReadFile(examples + "kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := decodeAll(text); n != 3 || err != nil {
		t.Errorf("%d objects, %v", n, err)
	}
	if _, err := decodeAll(bytes.Replace(text, []byte("readinessProbe"), []byte("readynessProbe"), 1)); err == nil {
		t.Error("a mistyped word passes: this test finds nothing")
	}
}

// decodeAll reads the objects, strictly, as the API's own types.
func decodeAll(text []byte) (n int, err error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(core.AddToScheme(scheme), apps.AddToScheme(scheme)); err != nil {
		return 0, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for ; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err == nil {
			_, _, err = decoder.Decode(document, nil, nil)
		}
		if err != nil {
			return n, err
		}
	}
}

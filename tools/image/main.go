// Image packs a static program as an OCI image for amd64 and arm64, on an empty
// base, without a container engine. It writes an image layout, which podman,
// skopeo, crane and containerd read, into a directory.
//
//	image -program wsreceive -bin DIR -version 0.1.0 -created 1700000000 -to DIR
//
// The programs are in DIR/amd64 and DIR/arm64. The same input gives the same
// bytes.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who runs the program: nobody that a host has.
const user = 65532

func main() {
	var p packing
	flag.StringVar(&p.program, "program", "", "the program: wsrelay or wsreceive")
	flag.StringVar(&p.bin, "bin", "", "directory with amd64/PROGRAM and arm64/PROGRAM")
	flag.StringVar(&p.version, "version", "", "version of the program")
	created := flag.Int64("created", 0, "time of creation, in seconds since 1970")
	to := flag.String("to", "", "directory of the image layout")
	flag.Parse()
	p.created = time.Unix(*created, 0).UTC()
	if err := p.write(*to); err != nil {
		fmt.Fprintln(os.Stderr, "image: error:", err)
		os.Exit(1)
	}
}

type packing struct {
	program, bin, version string
	created               time.Time
}

func (p *packing) write(to string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := p.image(arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	// One entry with a name: what "podman run oci:DIR" and umoci look for.
	root, err := layout.Write(to, empty.Index)
	if err != nil {
		return err
	}
	return root.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": p.version}))
}

func (p *packing) image(arch string) (v1.Image, error) {
	files, err := p.files(arch)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{CreatedBy: "tools/image", Created: v1.Time{Time: p.created}},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: p.created}
	home := "/var/lib/" + p.program
	config.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", user, user), WorkingDir: home, Entrypoint: []string{"/usr/bin/" + p.program},
		Volumes: map[string]struct{}{home: {}}, StopSignal: "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title": p.program, "org.opencontainers.image.version": p.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	if p.program == "wsreceive" {
		config.Config.Cmd = []string{"serve"}
		config.Config.ExposedPorts = map[string]struct{}{"8514/tcp": {}}
	} else {
		config.Config.Env = []string{"WSRELAY_QUEUE_DIR=" + home}
	}
	return mutate.ConfigFile(image, config)
}

// files is the image's only layer, as a tar archive.
func (p *packing) files(arch string) ([]byte, error) {
	program, err := os.ReadFile(filepath.Join(p.bin, arch, p.program))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, mode int64, owner int, content []byte) {
		h := &tar.Header{
			Name: name, Mode: mode, Uid: owner, Gid: owner, Size: int64(len(content)), ModTime: p.created,
			Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = w.Write(content)
		}
	}
	for _, dir := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/", "usr/", "usr/bin/", "var/", "var/lib/"} {
		add(dir, 0o755, 0, nil)
	}
	add("tmp/", 0o1777, 0, nil)
	add("var/lib/"+p.program+"/", 0o700, user, nil)
	add("etc/passwd", 0o644, 0, fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\n%s:x:%d:%d::/var/lib/%[1]s:/sbin/nologin\n", p.program, user, user))
	add("etc/ssl/certs/ca-certificates.crt", 0o644, 0, authorities())
	add("usr/bin/"+p.program, 0o755, 0, program)
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// authorities is Mozilla's list, of the version that go.mod names: not that of
// the machine that packs.
func authorities() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil { // trusted for some certificates only, which a file cannot express
			continue
		}
		_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
	}
	return all.Bytes()
}

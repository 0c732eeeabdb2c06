package elastic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// awsService is the name of Amazon OpenSearch Service in signatures.
const awsService = "es"

// signer signs each request with Signature Version 4.
type signer struct {
	next            http.RoundTripper
	credentials     aws.CredentialsProvider
	service, region string
	now             func() time.Time
	v4              *v4.Signer
}

// newSigner looks for credentials where AWS programs do: the environment, the
// shared files, single sign-on, web identity, the container's and the machine's
// role. They are renewed before they expire.
func newSigner(next http.RoundTripper, region string) (*signer, error) {
	found, err := config.LoadDefaultConfig(context.Background(), config.WithRegion(region))
	if err != nil {
		return nil, fmt.Errorf("look for the credentials of AWS: %w", err)
	}
	return &signer{next, found.Credentials, awsService, region, time.Now, v4.NewSigner()}, nil
}

// RoundTrip implements http.RoundTripper.
func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, errors.Join(err, req.Body.Close())
		}
		_ = req.Body.Close()
	}
	credentials, err := s.credentials.Retrieve(req.Context())
	if err != nil {
		return nil, fmt.Errorf("credentials of AWS: %w", err)
	}
	signed := req.Clone(req.Context())
	signed.Body, signed.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	sum := sha256.Sum256(body)
	if err := s.v4.SignHTTP(req.Context(), credentials, signed, hex.EncodeToString(sum[:]), s.service, s.region,
		s.now()); err != nil {
		return nil, fmt.Errorf("sign a request for AWS: %w", err)
	}
	return s.next.RoundTrip(signed)
}

// fileAuth sets the credentials of a file, which is read again when it has changed.
// One that cannot be read, or is not of the form, changes nothing: an editor may be
// about to write it.
type fileAuth struct {
	next http.RoundTripper
	path string

	mu     sync.Mutex
	seen   os.FileInfo
	header http.Header
}

func newFileAuth(next http.RoundTripper, path string) (*fileAuth, error) {
	f := &fileAuth{next: next, path: path}
	return f, f.read()
}

// read reads the file if it is another than before.
func (f *fileAuth) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("read the engine's credentials: %w", err)
	}
	if f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) &&
		info.Size() == f.seen.Size() {
		return nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read the engine's credentials: %w", err)
	}
	header, err := authorization(string(text))
	if err != nil {
		return err
	}
	f.seen, f.header = info, header
	return nil
}

// RoundTrip implements http.RoundTripper.
func (f *fileAuth) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	_ = f.read() // the engine says what it thinks of the old ones
	header := f.header
	f.mu.Unlock()
	req = req.Clone(req.Context())
	maps.Copy(req.Header, header)
	return f.next.RoundTrip(req)
}

const cloudScheme = "cloud:"

// cloudURL is the address of the engine in an Elastic Cloud id, NAME:BASE64: the
// base64 has the domain, the engine's name in it and Kibana's, with $ between.
func cloudURL(id string) (string, error) {
	bad := errors.New("this is not an Elastic Cloud id of the form cloud:NAME:BASE64: copy it from the deployment's page")
	encoded := id[strings.LastIndexByte(id, ':')+1:]
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", bad
	}
	parts := strings.Split(string(text), "$")
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return "", bad
	}
	domain, port, found := strings.Cut(parts[0], ":")
	if !found {
		port = "443"
	}
	name, own, found := strings.Cut(parts[1], ":")
	if found {
		port = own
	}
	return "https://" + net.JoinHostPort(name+"."+domain, port), nil
}

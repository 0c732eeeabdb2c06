package elastic

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/tidwall/gjson"

	"wsrelay/handshake"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The signatures that AWS publishes for its test suite of Signature Version 4.
func TestSigner_SignsAsTheTestSuiteOfAWS(t *testing.T) {
	const scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature="
	for _, tt := range []struct{ name, method, path, signature string }{
		{"get-vanilla", http.MethodGet, "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", http.MethodGet, "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-vanilla", http.MethodPost, "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"post-vanilla-query", http.MethodPost, "/?Param1=value1", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	} {
		var got, sent string
		s := &signer{
			next: roundTrip(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				got, sent = r.Header.Get("Authorization"), string(body)
				return &http.Response{}, err
			}),
			credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE",
				"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")),
			service: "service", region: "us-east-1",
			now: func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
			v4:  v4.NewSigner(),
		}
		req, err := http.NewRequest(tt.method, "https://example.amazonaws.com"+tt.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RoundTrip(req); err != nil || got != scope+tt.signature || sent != "" {
			t.Errorf("%s: %v, %q, want %q", tt.name, err, got, scope+tt.signature)
		}
	}
}

// The client's requests, compressed ones with their bodies, are signed with the
// credentials of the environment.
func TestDial_SignsForAWS(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	var auth, token, body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		auth, token, body = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token"), string(text)
		_, _ = io.WriteString(w, `{}`)
	}))
	defer srv.Close()
	c, err := Dial(srv.URL, Access{AWSRegion: "eu-central-1", Gzip: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.call(t.Context(), http.MethodPost, bulkPath, ndjson, []byte("a body\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(auth, "/eu-central-1/es/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token, Signature=") || token != "token" || body != "a body\n" {
		t.Errorf("got %q, %q, %q", auth, token, body)
	}
	for _, a := range []Access{
		{AWSRegion: "eu-central-1", Auth: "u:p"},
		{AWSRegion: "eu-central-1", AuthFile: "f"},
		{AWSRegion: "eu central"},
	} {
		if _, err := Dial(srv.URL, a); err == nil {
			t.Errorf("%+v was taken", a)
		}
	}
}

func TestDial_ReadsCredentialsAgainThatChange(t *testing.T) {
	var auth string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "auth")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ApiKey first\n")
	c, err := Dial(srv.URL, Access{AuthFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct{ text, want string }{
		{"", "ApiKey first"},
		{"ApiKey second!\n", "ApiKey second!"},
		{"half a", "ApiKey second!"}, // an editor may be at it
		{"Bearer third", "Bearer third"},
	} {
		if tt.text != "" {
			write(tt.text)
		}
		if _, err := c.Do(t.Context(), http.MethodGet, "/x", nil); err != nil || auth != tt.want {
			t.Errorf("after %q: %v, %q, want %q", tt.text, err, auth, tt.want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), http.MethodGet, "/x", nil); err != nil || auth != "Bearer third" {
		t.Errorf("without the file: %v, %q", err, auth)
	}
	if _, err := Dial(srv.URL, Access{AuthFile: file}); err == nil {
		t.Error("a file that is not there was taken")
	}
}

func TestCloudURL(t *testing.T) {
	for text, want := range map[string]string{
		"eu.example.com$abc$def":           "https://abc.eu.example.com:443",
		"eu.example.com:9243$abc$def":      "https://abc.eu.example.com:9243",
		"eu.example.com:9243$abc:9244$def": "https://abc.eu.example.com:9244",
		"eu.example.com$abc":               "https://abc.eu.example.com:443",
		"eu.example.com":                   "",
		"$abc":                             "",
	} {
		got, err := cloudURL("cloud:my:name:" + base64.StdEncoding.EncodeToString([]byte(text)))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := Dial("cloud:name:?", Access{}); err == nil {
		t.Error("an id that is not base64 was taken")
	}
}

// All that is asked of an index goes through the pipeline, its probe too, or a
// pipeline that fails would be the lines' fault. Dead letters do not.
func TestStore_NamesThePipelineOfDocuments(t *testing.T) {
	e := newScripted(t)
	var with, without []string
	e.before = func(_ http.ResponseWriter, _ int, body []byte) bool {
		for line := range strings.Lines(string(body)) {
			if action := gjson.Get(line, "create"); action.Get("pipeline").Str == "geo" {
				with = append(with, action.Get("_index").Str)
			} else if action.Exists() {
				without = append(without, action.Get("_index").Str)
			}
		}
		return false
	}
	e.item = func(_ int, at place, source string) string {
		if gjson.Get(source, "message").Str == "no" && at.index == testIndex {
			return refuse(400, "illegal_argument_exception", "no")
		}
		return ""
	}
	s, err := Open(t.Context(), e.URL, Options{Pipeline: "geo"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkCounts(t, mustCommit(t, s, batchOf(handshake.NewSID(), 1, "yes", "no")), 1, 0, 1)
	if len(with) != 4 || slices.Contains(with, testDead) || !slices.Equal(without, []string{testDead}) {
		t.Errorf("with the pipeline: %q, without: %q", with, without)
	}
	if _, err := Open(t.Context(), e.URL, Options{Pipeline: `"a`}); err == nil {
		t.Error("a name that is none was taken")
	}
}

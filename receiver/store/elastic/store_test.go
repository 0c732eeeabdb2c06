package elastic

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

func TestOpen_NamesProductAndVersion(t *testing.T) {
	for answer, want := range map[string]string{
		`{"version":{"number":"2.19.1","distribution":"opensearch"}}`: "opensearch 2.19.1",
		`{"version":{"number":"8.15.0"},"tagline":"x"}`:               "elasticsearch 8.15.0",
	} {
		e := newScripted(t)
		e.root = answer
		name, guarantee := openAt(t, e.URL+"/").Describe()
		if name != want || guarantee != handshake.ExactlyOnce {
			t.Errorf("Describe: %q, %q, want %q", name, guarantee, want)
		}
	}
}

func TestOpen_SucceedsWhileTheEngineIsDown(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	var log bytes.Buffer
	s, err := Open(t.Context(), down.URL, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(log.String(), "effect=") || !strings.Contains(log.String(), "hint=") {
		t.Errorf("log %q, want effect and hint", log.String())
	}
	s.pause = 1
	_, err = s.Commit(t.Context(), []receiver.Batch{batchOf(handshake.NewSID(), 1, "a")})
	var e *Error
	if !errors.As(err, &e) || e.Status != 0 {
		t.Errorf("Commit: %v, want no answer", err)
	}
}

func TestOpen_RefusesWhatWaitingDoesNotFix(t *testing.T) {
	for _, tt := range []struct {
		status       int
		answer, want string
	}{
		{401, `{"error":{"type":"security_exception","reason":"missing credentials"}}`, "401 security_exception: missing credentials"},
		{404, "nginx", "404"},
		{200, `{"status":"ok"}`, "neither"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
			_ *http.Request,
		) {
			answerWith(w, tt.status, tt.answer)
		}))
		_, err := Open(t.Context(), srv.URL, Options{})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.Hint() == "" {
			t.Errorf("Open: %v, want %q and a hint", err, tt.want)
		}
		srv.Close()
	}
}

func TestOpen_ChecksItsOptions(t *testing.T) {
	for _, tt := range []struct {
		url string
		o   Options
	}{
		{"localhost:9200", Options{}},
		{"ftp://u:SECRET@x", Options{}},
		{"http://u:SECRET@x:port", Options{}},
		{"http://127.0.0.1:1", Options{Prefix: "Logs"}},
		{"http://127.0.0.1:1", Options{Prefix: "dead"}},
		{"http://127.0.0.1:1", Options{Prefix: "dead-web"}},
		{"http://127.0.0.1:1", Options{Access: Access{Auth: "SECRET"}}},
		{"http://127.0.0.1:1", Options{Access: Access{CAFingerprint: "ab:cd"}}},
		{"http://127.0.0.1:1", Options{Access: Access{CertFile: "/nonexistent"}}},
		{"http://127.0.0.1:1", Options{Access: Access{CertFile: "/nonexistent", KeyFile: "/nonexistent"}}},
		{"http://127.0.0.1:1", Options{Access: Access{CAFile: "/nonexistent"}}},
	} {
		if _, err := Open(t.Context(), tt.url, tt.o); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("Open(%q, %+v): %v, want an error without the secret", tt.url, tt.o, err)
		}
	}
}

func TestOpen_SendsTheCredentials(t *testing.T) {
	for auth, want := range map[string]string{
		"":                  "Basic dTpw", // from the URL
		"ApiKey abc\n":      "ApiKey abc",
		"Bearer abc":        "Bearer abc",
		"elastic:pass word": "Basic ZWxhc3RpYzpwYXNzIHdvcmQ=",
	} {
		var got string
		e := newScripted(t)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Get("Authorization")
			e.serve(w, r)
		}))
		s, err := Open(t.Context(), strings.Replace(srv.URL, "//", "//u:p@", 1), Options{Access: Access{Auth: auth}})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		srv.Close()
		if got != want {
			t.Errorf("Auth %q: header %q, want %q", auth, got, want)
		}
	}
}

// Some engines quote the whole request, credentials and lines, in a reason.
func TestError_HasNoSecretsAndNoPayload(t *testing.T) {
	for answer, want := range map[string]string{
		`{"reason":"failed to parse field [a] of type [long] in document with id 'x'. Preview of field's value: 'SECRET'",` +
			`"caused_by":{"reason":"For input string: \"SECRET\""}}`: "failed to parse field [a] of type [long] in document with id 'x'.",
		`{"reason":"failed to parse","caused_by":{"reason":"Duplicate field 'z'\n at [Source: (byte[])\"POST /_bulk HTTP/1.1\r\nAuthorization: SECRET"}}`: "failed to parse: Duplicate field 'z'",
		`{"reason":"immense term in field=\"kw\", all of which were skipped. The prefix of the first immense term is: 'SECRET'"}`:                         `immense term in field="kw", all of which were skipped.`,
	} {
		if got := newError(400, gjson.Parse(answer)).Reason; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
	}
}

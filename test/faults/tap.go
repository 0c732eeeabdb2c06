package faults

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Tap stands in front of the engine. It counts documents on their way to their
// own indices, dead letters not.
type Tap struct {
	*httptest.Server
	documents atomic.Int64
	fault     atomic.Pointer[Fault]
	spoilt    atomic.Int64 // by the fault that is set
}

// Fault may answer a request itself, before the engine sees it (answer is nil)
// or in place of the engine's answer.
type Fault func(w http.ResponseWriter, r *http.Request, body, answer []byte) (answered bool)

// NewTap opens a tap in front of the real engine, for the test.
func NewTap(t testing.TB) *Tap {
	t.Helper()
	tap := &Tap{}
	engine := Engine(t)
	tap.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		tap.documents.Add(int64(bytes.Count(body, []byte(`{"create":{"_index":"`)) - bytes.Count(body,
			[]byte(`{"create":{"_index":"wsrelay-dead-`))))
		if tap.spoil(w, r, body, nil) {
			return
		}
		res, err := forward(engine, r, body)
		if err != nil {
			HangUp(w)
			return
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			HangUp(w)
			return
		}
		if tap.spoil(w, r, body, answer) {
			return
		}
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(tap.Close)
	return tap
}

func forward(engine string, r *http.Request, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, engine+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	req.Header.Del("Accept-Encoding") // the client here has its own
	return http.DefaultClient.Do(req)
}

func (tap *Tap) spoil(w http.ResponseWriter, r *http.Request, body, answer []byte) bool {
	f := tap.fault.Load()
	answered := f != nil && (*f)(w, r, body, answer)
	if answered {
		tap.spoilt.Add(1)
	}
	return answered
}

// Set puts a fault in the way.
func (tap *Tap) Set(f Fault) {
	tap.spoilt.Store(0)
	tap.fault.Store(&f)
}

// Lift takes the fault out of the way, if one was set. One that has answered no
// request was none.
func (tap *Tap) Lift(t testing.TB) {
	t.Helper()
	if tap.fault.Swap(nil) != nil && tap.spoilt.Load() == 0 {
		t.Error("the fault has not happened")
	}
}

// Documents is how many were on their way to the engine so far.
func (tap *Tap) Documents() int { return int(tap.documents.Load()) }

// HangUp ends the connection without an answer.
func HangUp(w http.ResponseWriter) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
	return true
}

package victorialogs

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A segment that holds nothing but the name of an owner is no loss of the server.
func TestStore_ASegmentWithoutRowsIsNoLoss(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprint(w, "vm_app_start_timestamp 1\nflag{name=\"inmemoryDataFlushInterval\", value=\"10ms\"} 1\n")
		case "/select/logsql/query":
			if q := r.FormValue("query"); len(q) > 5 && q[len(q)-4:] == "as n" {
				fmt.Fprintln(w, `{"n":"0"}`)
			}
		}
	}))
	defer server.Close()
	s, err := Open(t.TempDir(), server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.SetOwner(t.Context(), "a", "", "ann"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Errorf("Wait = %v", err)
	}
}

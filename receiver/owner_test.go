package receiver

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// tokenOf makes a secret whose value is its name, long enough.
func tokenOf(name string) handshake.Secret {
	return handshake.Secret{Name: name, Value: []byte("the token of " + name)}
}

// greetAs says hello with a token; empty: none.
func greetAs(t *testing.T, url, token string, h *handshake.Hello) *sender {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer the token of "+token)
	}
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}}
	conn, _, err := d.DialContext(t.Context(), url, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	s := &sender{t: t, conn: conn}
	s.control(h)
	return s
}

func twoSenders() Access {
	return Access{Unbound: true, Tokens: handshake.Secrets{
		tokenOf("web-a"), tokenOf("web-b"),
		{Name: "web-a", Value: []byte("the token of web-a, new")},
	}}
}

// A key holder uses the stream of another: to have lines of it acknowledged that
// nobody has stored, to hold it shut, or to hide what comes after.
func TestStream_OfAnotherSenderIsRefused(t *testing.T) {
	log := new(lockedBuffer)
	store := &memStore{}
	_, url := serve(t, store, Options{Access: twoSenders(), Log: slog.New(slog.NewTextHandler(log, nil))})
	a := greetAs(t, url, "web-a", hello(1))
	want[*handshake.Welcome](a)
	a.lines(1, "one")
	a.wantAck(2)
	for range 5 {
		greetAs(t, url, "web-b", hello(1)).wantClose(handshake.CloseForbidden)
	}
	a.lines(2, "two") // its session is still there
	a.wantAck(3)
	if store.count() != 2 {
		t.Errorf("%d lines are stored, want two", store.count())
	}
	if got := log.String(); !strings.Contains(got, `the stream belongs to \"web-a\"`) ||
		!strings.Contains(got, "wsreceive streams move") {
		t.Errorf("log:\n%s", got)
	}
}

func TestStream_ItsOwnerMayProveItselfInAnyWay(t *testing.T) {
	access := twoSenders()
	access.Keys = handshake.Secrets{{Name: "web-a", Value: []byte("a key of 32 bytes, or nearly so.")}}
	_, url := serve(t, &memStore{}, Options{Access: access})
	want[*handshake.Welcome](greetAs(t, url, "web-a", hello(1)))
	want[*handshake.Welcome](greetAs(t, url, "web-a, new", hello(1))) // two secrets of one name

	s := dial(t, url) // from a token to a key
	prove(t, s, access.Keys[0], hello(1))
	want[*handshake.Welcome](s)

	h := hello(1) // from one name to another, while both are shown
	h.SID = "vvvvvvvvvvvvvvvv"
	want[*handshake.Welcome](greetAs(t, url, "web-b", h))
	both := greetAs(t, url, "web-b", keyed(access.Keys[0], h))
	answer(t, both, access.Keys[0])
	want[*handshake.Welcome](both)
}

// keyed is h with the name of a key.
func keyed(key handshake.Secret, h *handshake.Hello) *handshake.Hello {
	k := *h
	k.KID, k.Nonce, k.Mech = key.Name, handshake.NewNonce(), []string{handshake.MechHMAC}
	return &k
}

func prove(t *testing.T, s *sender, key handshake.Secret, h *handshake.Hello) {
	t.Helper()
	s.control(keyed(key, h))
	answer(t, s, key)
}

// answer proves the key to the receiver that asks for it.
func answer(t *testing.T, s *sender, key handshake.Secret) {
	t.Helper()
	_, chal, err := s.conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	transcript := handshake.Transcript{Hello: s.hello, Chal: chal}
	s.control(&handshake.Auth{MAC: transcript.SenderMAC(key.Value)})
}

// Where nobody was asked who he is, the first that is asked gets the stream.
func TestStream_OfNobodyIsAdopted(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{})
	want[*handshake.Welcome](greetAs(t, url, "", hello(1)))
	r.SetAccess(twoSenders())
	want[*handshake.Welcome](greetAs(t, url, "web-a", hello(1)))
	greetAs(t, url, "web-b", hello(1)).wantClose(handshake.CloseForbidden)
	r.SetAccess(Access{})
	want[*handshake.Welcome](greetAs(t, url, "", hello(1))) // nobody is asked any more
}

func TestStream_CanBeMoved(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{Access: twoSenders()})
	want[*handshake.Welcome](greetAs(t, url, "web-a", hello(1)))
	if owner, err := r.owners.SetOwner(t.Context(), sid, "web-a", "web-b"); owner != "web-b" || err != nil {
		t.Fatal(owner, err)
	}
	want[*handshake.Welcome](greetAs(t, url, "web-b", hello(1)))
	greetAs(t, url, "web-a", hello(1)).wantClose(handshake.CloseForbidden)
}

// With --require-receipt a receipt of another stream opens only what is the
// sender's own, or new: it is what a sender shows after a change of sid.
func TestStream_AReceiptOfAnotherStreamOpensNone(t *testing.T) {
	access := twoSenders()
	access.ReceiptSecret, access.RequireReceipt = []byte("the store's"), true
	for name, access := range map[string]Access{
		"by name":          access,
		"by receipt alone": {ReceiptSecret: access.ReceiptSecret, RequireReceipt: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := serve(t, &memStore{}, Options{Access: access})
			a, b := "web-a", "web-b"
			if access.Tokens == nil {
				a, b = "", ""
			}
			show := func(token, stream string, acked uint64, proof *handshake.Proof) *sender {
				h := hello(acked)
				h.SID, h.Proof = stream, proof
				return greetAs(t, url, token, h)
			}
			begin := func(token, stream string) *handshake.Proof {
				s := show(token, stream, 1, nil)
				want[*handshake.Welcome](s)
				s.lines(1, "one")
				ack := want[*handshake.Ack](s)
				want[*handshake.Welcome](show(token, stream, 1, nil)) // the receipt was lost
				proof := &handshake.Proof{Seq: ack.Seq, UID: ack.UID.Last, RT: ack.RT}
				want[*handshake.Welcome](show(token, stream, 2, proof))
				return proof
			}
			ofA, ofB := begin(a, sidOf(1)), begin(b, sidOf(2))
			show(b, sidOf(1), 2, ofB).wantClose(handshake.CloseForbidden)
			show(b, sidOf(1), 1, nil).wantClose(handshake.CloseForbidden)
			show(a, sidOf(1), 2, nil).wantClose(handshake.CloseForbidden)
			want[*handshake.Welcome](show(a, sidOf(1), 2, ofA))
			want[*handshake.Welcome](show(a, sidOf(3), 7, ofA)) // a change of sid
			want[*handshake.Welcome](show(a, sidOf(3), 7, ofA)) // whose first receipt was lost
		})
	}
}

// deaf is a store that cannot be asked.
type deaf struct{ *memStore }

func (deaf) Owner(context.Context, string) (string, error) { return "", errors.New("it is down") }

func (deaf) SetOwner(context.Context, string, string, string) (string, error) {
	return "", errors.New("it is down")
}
func (deaf) EachOwner(context.Context, func(string, string) bool) error { return nil }

func TestStream_IsNobodysWhileTheStoreCannotTell(t *testing.T) {
	r, url := serve(t, deaf{&memStore{}}, Options{Access: twoSenders()})
	greetAs(t, url, "web-a", hello(1)).wantClose(handshake.CloseStoreDown)
	if _, _, err := r.health.state(); err == nil {
		t.Error("the store is in good health")
	}
}

func TestStream_ANameMayBeginSoManyInAnHour(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{Access: twoSenders(), Streams: 3})
	begin := func(token string, i int) *sender {
		h := hello(1)
		h.SID = sidOf(i)
		return greetAs(t, url, token, h)
	}
	for i := range 3 {
		s := begin("web-a", i)
		want[*handshake.Welcome](s)
		s.conn.Close()
	}
	refusal := want[*handshake.Err](begin("web-a", 3))
	if refusal.Code != handshake.CloseQuota || refusal.AfterMS != quotaRetry.Milliseconds() {
		t.Errorf("got %+v", refusal)
	}
	want[*handshake.Welcome](begin("web-a", 2)) // one that it has
	want[*handshake.Welcome](begin("web-b", 4))
}

func TestStream_ANameMayHaveSoManySessions(t *testing.T) {
	r, url := serve(t, &memStore{}, Options{Access: twoSenders(), Streams: 2})
	begin := func(token string, i int) *sender {
		h := hello(1)
		h.SID = sidOf(i)
		return greetAs(t, url, token, h)
	}
	first := begin("web-a", 1)
	want[*handshake.Welcome](first)
	want[*handshake.Welcome](begin("web-a", 2))
	begin("web-a", 1).wantClose(handshake.CloseQuota)
	want[*handshake.Welcome](begin("web-b", 3))
	first.conn.Close()
	waitFor(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.parties["web-a"].sessions < 2 },
		"it is still counted")
	want[*handshake.Welcome](begin("web-a", 1))
}

// One sender dates its lines years apart: in a store that has an index or a
// directory for each day it could make a thousand of them.
func TestSession_LinesOfTooManyDaysWait(t *testing.T) {
	store := &memStore{}
	_, url := serve(t, store, Options{Access: twoSenders(), AckTimeout: 60 * time.Millisecond})
	send := func(token string, stream, days int) *sender {
		h := hello(1)
		h.SID = sidOf(stream)
		s := greetAs(t, url, token, h)
		want[*handshake.Welcome](s)
		for i := range days {
			d, payload := batch(uint64(i+1), "a line")
			d.At = int64(i) * 86_400_000 * 30
			s.data(d, payload)
		}
		return s
	}
	hog := send("web-a", 1, daysAtOnce+1)
	for {
		f, err := hog.read()
		if err != nil {
			t.Fatal(err)
		}
		if busy, ok := f.(*handshake.Busy); ok {
			if busy.Why != "quota" {
				t.Errorf("it waits for %s", busy.Why)
			}
			break
		}
		if ack, ok := f.(*handshake.Ack); ok && ack.Seq > daysAtOnce+1 {
			t.Fatalf("receipts up to %d", ack.Seq)
		}
	}
	again := send("web-a", 2, daysAtOnce) // days that it has brought
	again.wantAckAfterBusyUpTo(daysAtOnce + 1)
	send("web-b", 3, 1).wantAck(2)
}

func (s *sender) wantAckAfterBusyUpTo(seq uint64) {
	s.t.Helper()
	for {
		f, err := s.read()
		if err != nil {
			s.t.Fatal(err)
		}
		if ack, ok := f.(*handshake.Ack); ok && ack.Seq == seq {
			return
		}
	}
}

// A batch that the store can never take is this sender's fault, not the store's.
func TestSession_WhatAStoreCannotTakeEndsItsSession(t *testing.T) {
	store := &memStore{hook: func(_ context.Context, batches []Batch) error {
		if batches[0].Seq > 1<<40 {
			return &RefusedError{"seq 2199023255552 is more than it can number"}
		}
		return nil
	}}
	r, url := serve(t, store, Options{})
	hog := greetAs(t, url, "", &handshake.Hello{V: handshake.Version, SID: sidOf(1), Acked: 1, Head: 1 << 42})
	want[*handshake.Welcome](hog)
	hog.lines(1<<41, "far out")
	hog.wantClose(handshake.CloseForbidden)
	if _, _, err := r.health.state(); err != nil {
		t.Errorf("the store is said to be down: %v", err)
	}
	honest := connect(t, url)
	honest.lines(1, "one")
	honest.wantAck(2)
}

func TestCertificate_IsForTheHostsInIt(t *testing.T) {
	for name, tt := range map[string]struct {
		cert    x509.Certificate
		holder  string
		allowed []string
		refused []string
	}{
		"names": {
			x509.Certificate{
				Subject:  pkix.Name{CommonName: "web"},
				DNSNames: []string{"web-1.example.com", "web-2"},
			},
			"web",
			[]string{"web-1.example.com", "web-1", "WEB-2"},
			[]string{"web", "web-3", "web-1.example.org"},
		},
		"no names": {
			x509.Certificate{Subject: pkix.Name{CommonName: "web-1"}},
			"web-1",
			[]string{"web-1"},
			[]string{"web-2", ""},
		},
		"no common name": {x509.Certificate{DNSNames: []string{"web-1.example.com"}}, "web-1.example.com", []string{"web-1"}, []string{"example"}},
		"only a number":  {x509.Certificate{SerialNumber: big.NewInt(7)}, "certificate 7", nil, []string{"web-1"}},
		"anybody": {
			x509.Certificate{Subject: pkix.Name{CommonName: Anybody}},
			"certificate *", nil,
			[]string{"web-1"},
		},
	} {
		tt.cert.SerialNumber = cmp.Or(tt.cert.SerialNumber, big.NewInt(1))
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{&tt.cert}}
		held, free := certified(state, true), certified(state, false)
		if held.Name != tt.holder || free.Name != tt.holder {
			t.Errorf("%s: got the names %q and %q, want %q", name, held.Name, free.Name, tt.holder)
		}
		for _, host := range tt.allowed {
			if !held.Allows(host, sid) {
				t.Errorf("%s: %s is refused", name, host)
			}
		}
		for _, host := range tt.refused {
			if held.Allows(host, sid) || !free.Allows(host, sid) {
				t.Errorf("%s: %s is allowed, or refused without the option", name, host)
			}
		}
	}
}

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func guarded(d time.Duration) (w *wire, peer net.Conn) {
	here, there := net.Pipe()
	w = &wire{Conn: here}
	w.guard(d)
	return w, there
}

func TestWire_AnyByteIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peer := guarded(10 * time.Second)
		defer w.Close()
		go func() {
			for range 5 {
				time.Sleep(9 * time.Second)
				_, _ = peer.Write([]byte("x"))
			}
		}()
		start := time.Now()
		n, err := io.ReadFull(w, make([]byte, 6))
		if n != 5 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, then %v", n, err)
		}
		if got, want := time.Since(start), 55*time.Second; got != want {
			t.Errorf("stopped after %v, want %v", got, want)
		}
	})
}

func TestWire_ALargeWriteMayTakeLongWhileItMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, peer := guarded(10 * time.Second)
		defer w.Close()
		go func() {
			for range 20 {
				time.Sleep(8 * time.Second)
				_, _ = io.CopyN(io.Discard, peer, chunk)
			}
			_, _ = peer.Write([]byte("x"))
		}()
		read := make(chan error, 1)
		go func() {
			_, err := w.Read(make([]byte, 1))
			read <- err
		}()
		if n, err := w.Write(make([]byte, 20*chunk)); n != 20*chunk || err != nil {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		if err := <-read; err != nil {
			t.Errorf("the reader stopped meanwhile: %v", err)
		}
	})
}

func TestWire_AWriteThatDoesNotMoveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := guarded(10 * time.Second)
		defer w.Close()
		start := time.Now()
		if _, err := w.Write(make([]byte, 20*chunk)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got, want := time.Since(start), 10*time.Second; got != want {
			t.Errorf("stopped after %v, want %v", got, want)
		}
	})
}

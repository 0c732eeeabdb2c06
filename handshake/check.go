package handshake

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a frame must hold to be one; what it means is for the ends to judge.

func (f *Hello) check() error {
	switch {
	case f.V < 1:
		return fmt.Errorf("v %d", f.V)
	case !ValidSID(f.SID):
		return fmt.Errorf("sid %.40q", f.SID)
	case f.Acked < 1 || f.Acked > f.Head || f.Head > MaxSeq+1:
		return fmt.Errorf("acked %d, head %d", f.Acked, f.Head)
	case f.Pending.N > MaxSeq || !isSize(f.Pending.Bytes) || !isSize(f.Max):
		return errors.New("a size is negative or too large")
	}
	return nil
}

func (f *Chal) check() error { return nil }

func (f *Auth) check() error { return nil }

func (f *Welcome) check() error {
	switch {
	case f.Max < 1 || f.MaxRaw < 1 || f.HB < 1 || f.AckTo < 1:
		return errors.New("one of max, max_raw, hb, ack_to is missing")
	case !isSize(f.Max) || !isSize(f.MaxRaw):
		return fmt.Errorf("max %d, max_raw %d", f.Max, f.MaxRaw)
	case !isWait(f.HB) || !isWait(f.AckTo):
		return fmt.Errorf("hb %d, ack_to %d: limit %d ms", f.HB, f.AckTo, MaxWait.Milliseconds())
	}
	return f.Win.check()
}

func (w *Win) check() error {
	if !isSize(w.Bytes) || w.Batches < 0 {
		return fmt.Errorf("win of %d bytes, %d batches", w.Bytes, w.Batches)
	}
	return nil
}

func (f *Gap) check() error {
	switch {
	case !isBatch(f.B):
		return fmt.Errorf("b %d", f.B)
	case f.Why == "":
		return errors.New("no reason")
	case !isTime(f.At) || !isTime(f.From) || !isTime(f.To):
		return fmt.Errorf("at %d, from %d, to %d", f.At, f.From, f.To)
	}
	return checkRange(f.Seq, f.N)
}

func (f *Ack) check() error {
	switch {
	case !isNext(f.Seq) || f.B > MaxSeq:
		return fmt.Errorf("seq %d, b %d", f.Seq, f.B)
	case f.New < 0 || f.Dup < 0 || f.RejMore < 0:
		return fmt.Errorf("new %d, dup %d, rej_more %d", f.New, f.Dup, f.RejMore)
	case !isSize(f.Took):
		return fmt.Errorf("took %d", f.Took)
	case f.Win != nil:
		return f.Win.check()
	}
	return nil
}

func (f *Busy) check() error {
	if !isSize(f.MS) {
		return fmt.Errorf("ms %d", f.MS)
	}
	return nil
}

func (f *Nak) check() error {
	if f.Code == "" || f.B > MaxSeq || !isNext(f.Expect) || !isSize(f.Max) {
		return fmt.Errorf("code %.20q, b %d, expect %d, max %d", f.Code, f.B, f.Expect, f.Max)
	}
	return nil
}

func (f *Bye) check() error {
	if !isWait(f.AfterMS) {
		return fmt.Errorf("after_ms %d", f.AfterMS)
	}
	return nil
}

func (f *Err) check() error {
	if f.Code < 1000 || f.Code > 4999 || !isWait(f.AfterMS) {
		return fmt.Errorf("code %d, after_ms %d", f.Code, f.AfterMS)
	}
	return nil
}

func (d *Data) check() error {
	switch {
	case !isBatch(d.B):
		return fmt.Errorf("b %d", d.B)
	case d.Raw < d.N || !isSize(int64(d.Raw)): // a line is at least its newline
		return fmt.Errorf("n %d, raw %d", d.N, d.Raw)
	case d.Enc == "" || !isCRC(d.C):
		return fmt.Errorf("enc %.20q, c %.20q", d.Enc, d.C)
	case !isTime(d.At):
		return fmt.Errorf("at %d", d.At)
	}
	return checkRange(d.Seq, uint64(d.N))
}

func checkRange(seq, n uint64) error {
	if seq < 1 || n < 1 || seq > MaxSeq || n > MaxSeq-seq+1 {
		return fmt.Errorf("seq %d, n %d", seq, n)
	}
	return nil
}

// isNext reports whether seq can be the number after a range.
func isNext(seq uint64) bool { return 1 <= seq && seq <= MaxSeq+1 }

func isBatch(b uint64) bool { return 1 <= b && b <= MaxSeq }

func isSize(n int64) bool { return 0 <= n && n <= MaxSeq }

// isWait is for the durations that an end makes timers of.
func isWait(ms int64) bool { return 0 <= ms && ms <= MaxWait.Milliseconds() }

var lastMilli = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()

// isTime keeps to the years that every date format of the stores can write.
func isTime(ms int64) bool { return 0 <= ms && ms <= lastMilli }

func isCRC(s string) bool { return len(s) == 8 && strings.Trim(s, "0123456789abcdef") == "" }

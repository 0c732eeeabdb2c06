package sqlite

import (
	"context"
	"fmt"
	"time"

	"wsrelay/handshake"
)

// Hit is a line that was found.
type Hit struct {
	UID  string
	Time time.Time // when it entered its sender's queue, UTC
	Host string    // of the sender
	Line string    // its bytes, which need not be UTF-8
	Size int       // of the whole line, in bytes

	Summary *Summary // with Request.Cut, of the line's first 64 KiB
}

// Request is what Search is to find.
type Request struct {
	Query  *Query
	Limit  int           // so many lines at most, the newest
	Cut    int           // bytes of each line to give, and of each part of its Summary; 0: whole lines, without
	Budget time.Duration // to give up after; 0: never
}

// Result is what Search has found.
type Result struct {
	Hits     []Hit // the newest first
	Complete bool  // false: the budget was used up, there may be more
	Mark     Mark  // what is committed later lies behind it
}

// Search finds the newest lines that match; within one stream the newest are
// those with the highest sequence numbers. Of each line its first 64 KiB are
// searched.
//
// Every line whose Commit has returned is found. Lines that the full-text index
// does not hold yet are read one by one, some hundred thousand a second.
func (r *Reader) Search(ctx context.Context, req Request) (Result, error) {
	var res Result
	err := r.snapshot(ctx, req.Query, req.Budget, func(s *snapshot) (err error) {
		f := finder{snapshot: s, limit: req.Limit, cut: req.Cut}
		if res.Mark, err = s.mark(); err == nil {
			err = f.run()
		}
		res.Complete, err = s.inTime(err)
		res.Hits = f.hits
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("search: %w", err)
	}
	return res, nil
}

// Line gives one line by its UID; ok says that the store holds it.
func (r *Reader) Line(ctx context.Context, uid string) (h Hit, ok bool, err error) {
	sid, seq, err := handshake.ParseUID(uid)
	if err != nil {
		return Hit{}, false, err
	}
	err = r.snapshot(ctx, &Query{root: own{value: sid}}, 0, func(s *snapshot) error {
		streams, err := s.streams()
		if err != nil || len(streams) == 0 || seq > maxSeq {
			return err
		}
		id := documentID(streams[0].number, seq)
		return s.scan(streams[0], span{id, id}, func(d *document) error {
			h, ok = d.hit(0), true
			return nil
		})
	})
	if err != nil {
		return Hit{}, false, fmt.Errorf("line %s: %w", uid, err)
	}
	return h, ok, nil
}

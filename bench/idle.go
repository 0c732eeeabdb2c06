package main

import (
	"bufio"
	"database/sql"
	"errors"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// idle looks at a sender that has an open connection and nothing to do.
func idle(c chain) func(*box, int) (values, verdict, error) {
	return func(b *box, _ int) (values, verdict, error) {
		const lines = 100
		s, count, err := b.counted(c)
		if err != nil {
			return nil, verdict{}, err
		}
		if err := b.in.feed(s.input, 0, lines); err != nil {
			return nil, verdict{}, err
		}
		if err := b.awaitCount(lines, count); err != nil {
			return nil, verdict{}, err
		}
		time.Sleep(3 * time.Second) // what is put off for a second or two gets done
		before := s.usage()
		time.Sleep(b.idle)
		after := s.usage()
		const report = 20 * time.Second
		cpu := float64(after.cpu-before.cpu) * float64(report) / float64(b.idle)
		v := values{"rss": mib(after.rss), "pss": mib(s.pss()), "cpu": cpu / float64(time.Millisecond)}
		return b.conclude(v, lines, s.arrive(lines))
	}
}

// intoSQLite feeds the embedded store. The index of its words may lag behind.
func intoSQLite(c chain) func(*box, int) (values, verdict, error) {
	c.receive = receiveTo("sqlite:store.db")
	return func(b *box, n int) (values, verdict, error) {
		s, _, err := b.both(c)
		if err != nil {
			return nil, verdict{}, err
		}
		start := time.Now()
		if err := b.in.feed(s.input, 0, n); err != nil {
			return nil, verdict{}, err
		}
		err = s.arrive(n)
		v := mean(n, time.Since(start).Seconds())
		if err == nil {
			err = b.stored("store.db")
		}
		return b.conclude(v, n, err)
	}
}

// stored writes the documents of a store to the file out.
func (b *box) stored(name string) (err error) {
	db, err := sql.Open("sqlite", "file:"+b.path(name)+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // only read
	rows, err := db.QueryContext(b.ctx, "SELECT line FROM documents ORDER BY id")
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err says what went wrong
	f, err := os.Create(b.path("out"))
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, largeWrite)
	defer func() { err = errors.Join(err, out.Flush(), f.Close()) }()
	for rows.Next() {
		var line sql.RawBytes
		if err := rows.Scan(&line); err != nil {
			return err
		}
		_, _ = out.Write(line) // Flush says what went wrong
		_ = out.WriteByte('\n')
	}
	return rows.Err()
}

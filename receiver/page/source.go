package page

import (
	"context"

	"wsrelay/receiver/sqlite"
)

// source is where the page's lines are.
type source interface {
	Search(ctx context.Context, req sqlite.Request) (sqlite.Result, error)
	Line(ctx context.Context, uid string) (h sqlite.Hit, ok bool, err error)
	// watch begins to watch: of what is stored from then on follow misses nothing.
	watch(ctx context.Context) (follow, error)
}

// follow calls f with the lines that match, as they are stored, and how many it
// could not look at, until ctx ends or f returns an error.
type follow func(ctx context.Context, q *sqlite.Query, f func(hits []sqlite.Hit, missed int) error) error

// stored is a store that can be searched.
type stored struct{ *sqlite.Reader }

func (s stored) watch(ctx context.Context) (follow, error) {
	mark, err := s.Mark(ctx)
	return func(ctx context.Context, q *sqlite.Query, f func([]sqlite.Hit, int) error) error {
		return s.Follow(ctx, q, mark, func(hits []sqlite.Hit) error { return f(hits, 0) })
	}, err
}

package wsreceive

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"time"

	"wsrelay/internal/cli"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/logsql"
)

// followAgain is how long --follow waits before it asks again, and followOverlap how
// much it asks for again then: lines may have been stored meanwhile.
const (
	followAgain   = time.Second
	followOverlap = 5 * time.Minute
	followMissed  = 10_000 // lines at most that came meanwhile
)

// errEndsEarly says that an answer began, and the connection did not last.
var errEndsEarly = errors.New("the answer is incomplete")

// follow prints lines as they come. When wsreceive is restarted, or the network
// breaks, it continues where it was.
func (c *searchCmd) follow(ctx context.Context, store database, filter string, p *printer, log *slog.Logger) error {
	args := c.args(filter)
	args.Set("follow", "true")
	var newest time.Time
	printed := map[string]bool{}
	lost, worked := false, false
	for {
		err := store.lines(ctx, args, func(l *logs.Found) error {
			if lost {
				lost = false
				log.Warn("connected again")
			}
			if l.UID != "" && printed[l.UID] {
				return nil
			}
			if len(printed) > 2*followMissed {
				clear(printed)
			}
			printed[l.UID] = true
			if l.Time.After(newest) {
				newest = l.Time
			}
			return p.print(l)
		})
		failure := (*cli.Error)(nil)
		worked = worked || err == nil || errors.Is(err, errEndsEarly)
		switch {
		case ctx.Err() != nil:
			return nil // this is how it ends
		case errors.Is(err, syscall.EPIPE):
			return err
		case !worked, errors.As(err, &failure) && failure.Code == exitUsage:
			return err
		case !lost:
			lost = true
			log.Warn("the connection to wsreceive is lost", "err", err,
				cli.Effect, "new lines are printed after it is back", cli.Hint, "it is tried again automatically")
		}
		select {
		case <-time.After(followAgain):
		case <-ctx.Done():
			return nil
		}
		if !newest.IsZero() {
			args.Set("query", logsql.Within(filter, newest.Add(-followOverlap), time.Time{}))
			args.Set("limit", strconv.Itoa(followMissed))
		}
	}
}

// maxContext is how many lines before and after each --context prints at most.
const maxContext = 1000

// around prints each line that matches with its neighbours: those of its host and
// program.
func (c *searchCmd) around(ctx context.Context, store database, filter string, p *printer) error {
	var hits []logs.Found
	if err := store.lines(ctx, c.args(filter), func(l *logs.Found) error {
		hits = append(hits, *l)
		return nil
	}); err != nil {
		return err
	}
	isHit, printed := map[string]bool{}, map[string]bool{}
	for i := range hits {
		isHit[hits[i].UID] = true
	}
	for i := range hits {
		if printed[hits[i].UID] {
			continue
		}
		all, err := c.neighbours(ctx, store, &hits[i])
		if err != nil {
			return err
		}
		if i > 0 && p.form == "short" {
			p.out.WriteString("--\n")
		}
		for k := range all {
			l := &all[k]
			if printed[l.UID] {
				continue
			}
			printed[l.UID] = true
			sign := "  "
			if isHit[l.UID] {
				sign = "> "
				p.found++
			}
			if err := p.write(l, sign); err != nil {
				return err
			}
		}
	}
	return nil
}

// neighbours gives a line and those around it, in their order.
func (c *searchCmd) neighbours(ctx context.Context, store database, hit *logs.Found) ([]logs.Found, error) {
	lines, err := logsql.Around(ctx, func(ctx context.Context, query string) ([]map[string]string, error) {
		return queryRows(ctx, store, query)
	}, hit.UID, "", c.Context)
	if err != nil || lines == nil {
		return []logs.Found{*hit}, err
	}
	var all []logs.Found
	for ids := range slices.Chunk(lines.IDs, 100) { // a query must not be long
		part := logsql.Neighbours{IDs: ids}
		if err := store.lines(ctx, url.Values{"query": {part.Filter()}, "limit": {strconv.Itoa(len(ids))}},
			func(l *logs.Found) error {
				all = append(all, *l)
				return nil
			}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// queryRows gives the rows of a query.
func queryRows(ctx context.Context, store database, query string) (rows []map[string]string, err error) {
	body, err := store.get(ctx, "/select/logsql/query", url.Values{"query": {query}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	err = each(body, func(row *map[string]string) error {
		rows = append(rows, *row)
		return nil
	})
	return rows, err
}

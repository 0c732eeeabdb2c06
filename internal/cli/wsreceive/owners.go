package wsreceive

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"

	"wsrelay/receiver/store/logs"
)

// Owner implements receiver.Owners.
func (d *localDatabase) Owner(ctx context.Context, sid string) (owner string, err error) {
	err = d.owners(ctx, url.Values{"sid": {sid}}, func(o logs.Owned) bool {
		owner = o.Owner
		return true
	})
	return owner, err
}

// SetOwner implements receiver.Owners.
func (d *localDatabase) SetOwner(ctx context.Context, sid, from, to string) (owner string, err error) {
	err = d.owners(ctx, url.Values{"sid": {sid}, "from": {from}, "to": {to}}, func(o logs.Owned) bool {
		owner = o.Owner
		return true
	})
	return owner, err
}

// EachOwner implements receiver.Owners.
func (d *localDatabase) EachOwner(ctx context.Context, f func(sid, owner string) bool) error {
	return d.owners(ctx, nil, func(o logs.Owned) bool { return f(o.SID, o.Owner) })
}

func (d *localDatabase) owners(ctx context.Context, q url.Values, f func(logs.Owned) bool) error {
	body, err := d.get(ctx, "/store/owners", q)
	if err != nil {
		return err
	}
	defer body.Close()
	for in := json.NewDecoder(body); ; {
		var o logs.Owned
		switch err := in.Decode(&o); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if !f(o) {
			return nil
		}
	}
}

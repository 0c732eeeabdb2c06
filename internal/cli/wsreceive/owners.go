package wsreceive

import (
	"context"
	"errors"
	"net/url"

	"wsrelay/receiver/store/logs"
)

// Owner implements receiver.Owners.
func (d *localDatabase) Owner(ctx context.Context, sid string) (string, error) {
	return d.owner(ctx, url.Values{"sid": {sid}})
}

// SetOwner implements receiver.Owners.
func (d *localDatabase) SetOwner(ctx context.Context, sid, from, to string) (string, error) {
	return d.owner(ctx, url.Values{"sid": {sid}, "from": {from}, "to": {to}})
}

func (d *localDatabase) owner(ctx context.Context, args url.Values) (owner string, err error) {
	err = d.owners(ctx, args, func(o *logs.Owned) error {
		owner = o.Owner
		return nil
	})
	return owner, err
}

// EachOwner implements receiver.Owners.
func (d *localDatabase) EachOwner(ctx context.Context, f func(sid, owner string) bool) error {
	err := d.owners(ctx, nil, func(o *logs.Owned) error {
		if !f(o.SID, o.Owner) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

func (d *localDatabase) owners(ctx context.Context, args url.Values, f func(*logs.Owned) error) error {
	body, err := d.get(ctx, "/store/owners", args)
	if err != nil {
		return err
	}
	defer body.Close()
	return each(body, f)
}

//go:build ceph && cgo

package rbd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// owners are the clients that have the lock of an image which a writer must have. One made
// by hand (rbd lock add) is an error that wraps errForeignLock.
func owners(img *rbd.Image) (all []ceph.Address, err error) {
	// There is a call for the lock of writers alone, but not for who only reads.
	tag, found, err := img.ListLockers()
	if isNotFound(err) || err == nil && len(found) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look who has the lock: %w", err)
	}
	if strings.TrimRight(tag, "\x00") != writersTag {
		return nil, errForeignLock
	}
	for _, l := range found {
		all = append(all, ceph.Address(l.Addr))
	}
	return all, nil
}

// writersTag tells the lock of writers from others, to krbd and librbd alike.
const writersTag = "internal"

var errForeignLock = fmt.Errorf("it has a lock that is no writer's, and keeps all of them waiting: see rbd lock ls, and rbd lock rm: %w", backends.ErrInUse)

// breakLock takes the lock of an image away from a client, and from no other.
func breakLock(img *rbd.Image, a ceph.Address) error {
	all, err := owners(img)
	if errors.Is(err, errForeignLock) { // so a has none
		return nil
	}
	if err != nil || !slices.Contains(all, a) {
		return err
	}
	err = img.LockBreak(rbd.LockModeExclusive, string(a))
	if err != nil && !isNotFound(err) && ceph.Errno(err) != unix.EBUSY { // it is gone, or another's
		return fmt.Errorf("break the lock of client %s: %w", a, err)
	}
	return nil
}

// lockers are the clients that have the lock of an image. Those that are dead write
// nothing any more that another writer of the image would let pass.
type lockers struct{ live, dead []ceph.Address }

// lockersOf asks first who has the lock: a client watches the image for as long as it
// has that, and its address is never that of another. So who had the lock and does not
// watch after that has died, whoever has taken the lock meanwhile.
func lockersOf(img *rbd.Image) (has lockers, err error) {
	all, err := owners(img)
	if err != nil || len(all) == 0 {
		return has, err
	}
	watching, err := img.ListWatchers()
	if err != nil {
		return has, fmt.Errorf("look who watches it: %w", err)
	}
	for _, a := range all {
		if slices.ContainsFunc(watching, func(w rbd.ImageWatcher) bool { return w.Addr == string(a) }) {
			has.live = append(has.live, a)
		} else {
			has.dead = append(has.dead, a)
		}
	}
	return has, nil
}

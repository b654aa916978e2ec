package guard

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// ErrOver means that an order was due before the guard could see it postponed.
// It stands as it was, and the volume is being cut.
var ErrOver = errors.New("the lease was over")

// Book is dvold's side: the orders that it gives. Only one process may write to
// the book of a directory. Methods may be called concurrently; those that change
// orders return once the guard will act on it, and an error if nothing changed.
type Book struct {
	dir  string
	boot string
	id   string
	now  func() time.Duration
	wake chan struct{} // wakes Standby; holds one

	mu     sync.Mutex // serialises changes and guards the fields below
	orders []Order
	since  time.Duration      // of the latest order
	own    map[string]Outcome // what Standby did
}

// OpenBook opens the book in dir and takes over the orders that an earlier dvold
// left, unless the machine rebooted since. One that is damaged, or was written
// by a newer dvold, is an error.
func OpenBook(dir string) (*Book, error) {
	boot, err := host.BootID()
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the directory for the guard's orders: %w", err)
	}
	b := &Book{dir: dir, boot: boot, id: rand.Text(), now: host.BootTime, wake: make(chan struct{}, 1)}
	path := filepath.Join(dir, ordersFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	var f orders
	if err == nil {
		f, err = parseOrders(text, boot)
	}
	if err != nil {
		return nil, fmt.Errorf("read the guard's orders %s: %w", path, err)
	}
	if f.Book != "" {
		b.id, b.orders = f.Book, f.Orders
	}
	return b, nil
}

// Orders returns the orders that stand.
func (b *Book) Orders() []Order {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.orders)
}

// Put gives an order about a volume, in place of the one that there may be. For
// one incarnation it never moves the deadline back. It returns ErrOver if the
// volume was to be cut, and would not have to be any more: after a cut, Remove
// the order first.
func (b *Book) Put(o Order) error {
	if err := o.check(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := slices.Clone(b.orders)
	i := slices.IndexFunc(changed, o.sameVolume)
	if i >= 0 && changed[i].Incarnation == o.Incarnation {
		o.Since, o.Deadline = changed[i].Since, max(changed[i].Deadline, o.Deadline)
	} else {
		o.Since = max(b.now(), b.since+1)
	}
	b.since = max(b.since, o.Since)
	if i < 0 {
		changed = append(changed, o)
	} else {
		changed[i] = o
	}
	return b.change(changed)
}

// Renew postpones all orders of an incarnation, to a deadline that it never
// moves back. It returns ErrOver, and postpones none, if one was due already. If
// there is nothing to postpone, nothing is written.
func (b *Book) Renew(incarnation uint64, deadline time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := slices.Clone(b.orders)
	some := false
	for i, o := range changed {
		if o.Incarnation == incarnation && o.Deadline < deadline {
			changed[i].Deadline, some = deadline, true
		}
	}
	if !some {
		return nil
	}
	return b.change(changed)
}

// Remove takes back the order about a volume, if there is one, due or not.
func (b *Book) Remove(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := slices.DeleteFunc(slices.Clone(b.orders), func(o Order) bool { return o.ID == id })
	if len(changed) == len(b.orders) {
		return nil
	}
	return b.change(changed)
}

// change replaces the orders, unless that would call off one that is due. The
// guard looks at the clock first and at the orders then, so one that is not due
// yet after it was postponed will not be acted upon; of one that is, nobody
// knows.
func (b *Book) change(changed []Order) error {
	if err := b.over(changed); err != nil {
		return err
	}
	if err := b.store(changed); err != nil {
		return err
	}
	if err := b.over(changed); err != nil {
		return errors.Join(err, b.store(b.orders))
	}
	b.orders = changed
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// over returns ErrOver if an order is due now and would not be any more.
func (b *Book) over(changed []Order) error {
	now := b.now()
	for _, o := range b.orders {
		if i := slices.IndexFunc(changed, o.sameVolume); i >= 0 && o.due(now) && !changed[i].due(now) {
			return fmt.Errorf("volume %s is being cut off: %w", o.ID, ErrOver)
		}
	}
	return nil
}

// store writes the file of the orders. It also does so where /run is full: a
// lease that can't be renewed for want of a few bytes would cost the volumes.
func (b *Book) store(list []Order) error {
	text, err := json.Marshal(orders{Schema: schema, Boot: b.boot, Book: b.id, Orders: list})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	err = write(b.dir, ordersFile, text)
	if errors.Is(err, os.ErrNotExist) { // somebody emptied /run/dvol
		if err = makeDir(b.dir); err == nil {
			err = write(b.dir, ordersFile, text)
		}
	}
	reserve := filepath.Join(b.dir, reserveFile)
	if errors.Is(err, unix.ENOSPC) && os.Remove(reserve) == nil {
		err = write(b.dir, ordersFile, text)
	}
	if err != nil {
		return fmt.Errorf("write the guard's orders: %w", err)
	}
	_ = keepReserve(reserve, 2*int64(len(text))) // without it this has still succeeded
	return nil
}

// keepReserve makes a file of at least that size, with its blocks.
func keepReserve(path string, size int64) error {
	if info, err := os.Stat(path); err == nil && info.Size() >= size {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, max(size, 64<<10))
	return errors.Join(err, f.Close())
}

package guard

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
)

// reader knows the orders that stand. It is the guard's memory: what it has read
// once it forgets only if the book says so.
type reader struct {
	path string
	boot string
	log  *slog.Logger

	text  []byte // of the file, as read last; nil if it can't be
	next  []byte // room for the next
	bad   bool   // text can't be read
	gone  bool   // the file is missing, and was there
	book  string
	known []Order // in the file
	lost  []Order // in files of books that were lost, and not verified yet
}

func newReader(path, boot string, log *slog.Logger) *reader {
	return &reader{path: path, boot: boot, log: log}
}

// read looks whether the file has changed, and tells whether the orders are
// known as they are now.
func (r *reader) read() bool {
	err := r.load()
	if errors.Is(err, os.ErrNotExist) {
		if !r.gone && r.book != "" {
			r.log.Error("the guard's orders were removed: it goes on with those it knows", "path", r.path, "volumes", idsOf(r.orders()))
		}
		r.gone = r.book != ""
		r.text = nil
		return !r.gone
	}
	if err == nil && r.text != nil && bytes.Equal(r.next, r.text) {
		return !r.bad
	}
	r.gone = false
	var f orders
	if err == nil {
		r.text, r.next = r.next, r.text
		f, err = parseOrders(r.text, r.boot)
	} else {
		r.text = nil // so that it is parsed as soon as it can be read
	}
	if err != nil {
		if !r.bad {
			r.log.Error("the guard's orders can't be read: it goes on with those it knows", "path", r.path, "volumes", idsOf(r.orders()), "err", err)
		}
		r.bad = true
		return false
	}
	r.bad = false
	r.take(f)
	return true
}

// load reads the file into next.
func (r *reader) load() error {
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	text := bytes.NewBuffer(r.next[:0])
	_, err = io.Copy(text, f)
	r.next = text.Bytes()
	return err
}

// take replaces the orders by those of a file. If that is of another book, the
// earlier one was lost, with dvold's memory of the volumes in it: they stay, or
// nobody would ever cut them.
func (r *reader) take(f orders) {
	if f.Book == "" {
		return // of an earlier boot
	}
	if r.book != "" && f.Book != r.book {
		r.lost = r.orders()
		r.log.Error("the guard's orders begin anew: it keeps those it knows", "path", r.path, "volumes", idsOf(r.lost))
	}
	r.book, r.known = f.Book, f.Orders
	r.lost = slices.DeleteFunc(r.lost, func(o Order) bool { return slices.ContainsFunc(r.known, o.sameVolume) })
}

// orders returns those that stand.
func (r *reader) orders() []Order { return slices.Concat(r.known, r.lost) }

// forget drops an order of a lost book, once it is carried out.
func (r *reader) forget(id string) {
	r.lost = slices.DeleteFunc(r.lost, func(o Order) bool { return o.ID == id })
}

package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/coordination"
)

// request is the record at requests/<host>/<ID>/<asker>: asker wants a volume
// that host owns. It asks the host to let go of it, if nothing uses it, and
// above all to answer. Nothing rests on it, and the asker deletes it.
type request struct {
	Schema int       `json:"schema"`
	Name   string    `json:"name"` // of the volume
	ID     string    `json:"id"`
	By     caller    `json:"by"`
	Since  time.Time `json:"since"`
	Op     string    `json:"op"`
	Answer string    `json:"answer,omitempty"` // of the owner, for people; "" until it has answered
}

func requestsTo(host string) string            { return "requests/" + host + "/" }
func requestKey(host, id, asker string) string { return "requests/" + host + "/" + id + "/" + asker }

// wait is the waiting of one mount for one volume.
type wait struct {
	m     *Manager
	r     record
	limit time.Duration // for each live owner to let go

	key     string        // of the request, once there is one
	until   time.Time     // for whom it is to, to let go
	asked   time.Duration // when it was written, by m.now
	version uint64        // that it was written at
	doubted bool          // whether it answers matters: there is a hint that its machine is down
}

// begin begins to wait for a volume.
func (m *Manager) begin(r record, p *pool) *wait {
	return &wait{m: m, r: r, limit: m.mountWait(r, p)}
}

// end takes the request back, if there is one.
func (w *wait) end(ctx context.Context) {
	if w.key == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	stored, err := w.m.stored(ctx, w.key)
	if err == nil && stored.Version != 0 {
		_, err = w.m.commit(ctx, coordination.Delete(stored))
	}
	if ignoreConflict(err) != nil {
		w.m.log.Debug("a request was left", "key", w.key, "err", err)
	}
}

// request writes the request to the owner, unless it has been.
func (w *wait) request(ctx context.Context, o owner) error {
	key := requestKey(o.Host, o.Volume, w.m.cfg.Host)
	if w.key == key {
		return nil
	}
	w.end(ctx)
	if err := w.write(ctx, key, o); err != nil {
		return err
	}
	w.until = time.Now().Add(w.limit)
	return nil
}

// write writes a request, over one that is there, such as one that was answered,
// or that a crash left.
func (w *wait) write(ctx context.Context, key string, o owner) error {
	session, err := w.m.session()
	if err != nil {
		return err
	}
	stored, err := w.m.stored(ctx, key)
	if err != nil {
		return err
	}
	value, err := marshal(request{
		Schema: recordSchema, Name: w.r.Name, ID: o.Volume, By: caller{w.m.cfg.Host, session.Incarnation()},
		Since: time.Now().UTC(), Op: newOp(),
	}, nil)
	if err != nil {
		return err
	}
	written, err := w.m.commit(ctx, coordination.Put(coordination.Record{Key: key, Value: value, Version: stored.Version}))
	if err != nil {
		return fmt.Errorf("ask host %q for it: %w", o.Host, err)
	}
	w.key, w.asked, w.version = key, w.m.now(), written[0].Version
	return nil
}

// answer is what the owner answered, or "".
func (w *wait) answer(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var q request
	stored, err := w.m.stored(ctx, w.key)
	if err != nil || stored.Version == 0 || unmarshal("record "+w.key, stored.Value, recordSchema, &q) != nil {
		return ""
	}
	return q.Answer
}

// unanswered tells whether the owner has left a request without an answer for
// unansweredFor. It asks, again if there is an answer, which was true then, and
// waits, if need be.
func (w *wait) unanswered(ctx context.Context, o owner) bool {
	if err := w.request(ctx, o); err != nil {
		return false
	}
	stored, err := w.m.stored(ctx, w.key)
	if err == nil && stored.Version != w.version {
		err = w.write(ctx, w.key, o)
	}
	if err != nil {
		return false
	}
	left := unansweredFor - (w.m.now() - w.asked)
	if left > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(left):
		}
	}
	stored, err = w.m.stored(ctx, w.key)
	return err == nil && stored.Version == w.version
}

// change waits until the owner's record is another than it was read as, or who
// matters to it is not what it was: the owner live, silent or suspect, the taker
// gone; or that it is time to ask an owner again that is in doubt. It returns nil
// then, and otherwise why it waited no longer.
func (w *wait) change(ctx context.Context, o owner) error {
	before, err := w.look(ctx, o)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	changed := make(chan struct{})
	w.m.calls.Add(1)
	go func() {
		defer w.m.calls.Done()
		defer close(changed)
		for found, err := range w.m.coord.Watch(watching, ownerKey(o.Volume)) {
			if err == nil && (len(found) != 1 || found[0].Version != o.version) {
				return
			}
		}
	}()
	look := time.NewTicker(lastLook)
	defer look.Stop()
	for {
		select {
		case <-changed:
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		case <-w.m.background.Done():
			return errors.New("dvold is about to end")
		case <-look.C:
		}
		now, err := w.look(ctx, o)
		again := w.doubted && w.m.now()-w.asked > askedAgain
		if err == nil && (now != before || again) {
			return nil
		}
	}
}

// people are those whose coming and going matters to an owner's record.
type people struct {
	owner, suspect, taker bool // live
	incarnation           uint64
}

func (w *wait) look(ctx context.Context, o owner) (people, error) {
	h, err := w.m.findHost(ctx, o.Host)
	if err != nil {
		return people{}, err
	}
	p := people{owner: h.Live, suspect: h.Suspect, incarnation: h.Incarnation}
	if o.Taker != nil && !o.Taker.Over {
		p.taker, err = w.m.alive(ctx, o.Taker.caller)
	}
	return p, err
}

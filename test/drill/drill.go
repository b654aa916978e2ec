package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/test/drill/report"
)

const (
	interval  = 50 * time.Millisecond // of the container's writes
	beginning = 3 * time.Minute       // until its first one, if nothing is wrong
	silence   = 3 * time.Second       // without one, if something is wrong
)

// drill is one run. It touches nothing but what has its number in its name, and the
// volume.
type drill struct {
	options
	number   string
	from, to *engine
	made     bool // the volume
	notes    *notes
	streams  sync.WaitGroup // of what is followed
	left     []string       // what could not be cleaned up
}

func newDrill(o options) *drill {
	var random [3]byte
	rand.Read(random[:])
	d := &drill{options: o, number: fmt.Sprintf("%x", random)}
	if d.volume == "" {
		d.volume = "drill-" + d.number
	}
	d.from = &engine{name: o.hosts[0].name, address: o.hosts[0].address}
	d.to = &engine{name: o.hosts[1].name, address: o.hosts[1].address}
	return d
}

func (d *drill) engines() []*engine { return []*engine{d.from, d.to} }

// name is that of the drill's image, of its containers, and of its file in the volume.
func (d *drill) name() string { return "dvol-drill-" + d.number }

// say tells whoever waits what is going on.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "drill: "+format+"\n", args...) }

// run runs the drill, and cleans up after it, however it ended.
func (d *drill) run(ctx context.Context) (report.Drill, error) {
	seen, err := d.prepareAndMove(ctx)
	d.clean(context.WithoutCancel(ctx))
	seen.Left = d.left
	if err != nil {
		for _, left := range d.left {
			say("left behind: %s", left)
		}
	}
	return seen, err
}

func (d *drill) prepareAndMove(ctx context.Context) (report.Drill, error) {
	if err := d.prepare(ctx); err != nil {
		return report.Drill{}, err
	}
	return d.move(ctx)
}

// move has the first host write, does to it what it is to, and has the second one
// write. An error means that it is not known what that would have come to.
func (d *drill) move(ctx context.Context) (report.Drill, error) {
	d.notes = newNotes()
	seen := report.Drill{
		Run: d.number, Began: d.notes.began, Volume: d.volume, Pool: d.pool, From: d.from.name, To: d.to.name, How: d.described(),
	}
	defer d.streams.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.follow(ctx)

	say("%s writes to %s", d.from.name, d.volume)
	old := d.start(ctx, d.from)
	if err := d.writes(ctx, d.from, old, d.before); err != nil {
		return seen, err
	}
	if err := d.strike(ctx); err != nil {
		return seen, err
	}
	say("%s is to start the container", d.to.name)
	now, err := d.takeOver(ctx)
	if err != nil {
		return seen, err
	}
	if now == nil {
		seen.NotMoved = fmt.Sprintf("%s did not get it within %v: %s", d.to.name, d.patience, d.notes.lastSaid(d.to.name))
	} else {
		say("%s writes", d.to.name)
		if err := d.settle(ctx, old, now); err != nil {
			return seen, err
		}
	}
	seen.Acks, seen.Events = d.notes.all()
	if now != nil {
		if seen.File, err = d.read(ctx); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// follow notes what the engines and dvold say from now on, until ctx ends.
func (d *drill) follow(ctx context.Context) {
	for _, e := range d.engines() {
		d.streams.Go(func() { e.follow(ctx, d.notes) })
		argv := e.logCommand(d.logs[e.name])
		if argv == nil {
			say("it is not known how to read dvold's log of %s: --log %s=COMMAND", e.name, e.name)
			continue
		}
		d.streams.Go(func() {
			log := func(line string) { d.notes.event(e.name, "dvold", report.MarkOf(d.volume, line), line) }
			stream(ctx, argv, log, func(line string) { d.notes.event(e.name, "drill", "", "dvold's log: "+line) })
		})
	}
}

// described is what is done to the first host, in words.
func (d *drill) described() string {
	switch d.how {
	case howCommand:
		return strings.Join(d.command, " ")
	case howWait:
		return "somebody pulled a plug"
	}
	return "docker " + d.how
}

// strike does to the first host what it is to, and returns when the second is to
// take over: at once, but where only silence tells that it is done.
func (d *drill) strike(ctx context.Context) error {
	struck := func() { d.notes.event(d.from.name, "drill", report.Struck, d.described()) }
	switch d.how {
	case howWait:
		say("now pull the plug of %s, or what you want to try", d.from.name)
		return d.silent(ctx, d.patience)
	case howCommand:
		say("%s", d.described())
		struck()
		err := stream(ctx, d.command, func(line string) { say("%s", line) }, func(line string) { say("%s", line) })
		if err == nil {
			return nil
		}
		// Such as that of ssh, from a host that it has switched off.
		d.notes.event(d.from.name, "drill", "", "the command said: "+err.Error())
		if late := d.silent(ctx, 3*silence); late != nil {
			return fmt.Errorf("%s: %w; and %w", d.described(), err, late)
		}
		return nil
	}
	say("%s on %s", d.described(), d.from.name)
	struck()
	_, err := d.from.docker(ctx, time.Minute, nil, d.how, d.from.container)
	return err
}

// silent waits until the first host has not written for a while.
func (d *drill) silent(ctx context.Context, patience time.Duration) error {
	timeout := time.After(patience)
	for {
		select {
		case <-d.notes.heard:
		case <-time.After(silence):
			d.notes.event(d.from.name, "drill", "", fmt.Sprintf("has not written for %v", silence))
			return nil
		case <-timeout:
			return fmt.Errorf("%s still writes after %v", d.from.name, patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// takeOver has the second host start the container, again and again until it has
// written. It returns nil if it has not in all that time.
func (d *drill) takeOver(ctx context.Context) (*writing, error) {
	limited, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	d.notes.event(d.to.name, "drill", report.Asked, "docker start, until it succeeds")
	for {
		w := d.start(ctx, d.to)
		select {
		case <-w.first:
			return w, nil
		case <-w.ended:
			select {
			case <-w.first: // and only then it ended
				return w, nil
			case <-limited.Done():
			case <-time.After(time.Second):
				continue
			}
		case <-limited.Done():
			w.cancel()
			<-w.ended
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, nil
	}
}

// settle has the second host write for a while, then ends whatever still writes,
// and returns when all that was acknowledged is noted.
func (d *drill) settle(ctx context.Context, old, now *writing) error {
	if err := d.writes(ctx, d.to, now, d.after); err != nil && ctx.Err() != nil {
		return err // if it ended early, the report tells
	}
	if _, err := d.to.docker(ctx, time.Minute, nil, "stop", d.to.container); err != nil {
		return err
	}
	select {
	case <-now.ended:
	case <-time.After(short):
		return errors.New("what the container said did not come to an end with it")
	}
	// Of a host that is there, but was cut off for a while, too.
	if _, err := d.from.docker(ctx, short, nil, "stop", d.from.container); err == nil {
		select {
		case <-old.ended:
		case <-time.After(silence):
		}
	}
	return nil
}

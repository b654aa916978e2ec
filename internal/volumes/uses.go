package volumes

import (
	"maps"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
)

// entry is what this host's journal holds of a volume that is mounted here, is
// about to be, or is yet to be unmounted. It is a value: changing one makes a
// new one.
//
// An entry without uses is an intent: whatever of the mount exists is to be
// undone, unless a use comes first.
type entry struct {
	Schema int            `json:"schema"`
	Name   string         `json:"name"`
	ID     string         `json:"id"`
	Pool   string         `json:"pool"`
	Handle string         `json:"handle"`
	Uses   map[string]use `json:"uses,omitempty"` // by Docker's mount ID

	// Of an exclusive volume.
	Exclusive bool        `json:"exclusive,omitempty"`
	Epoch     uint64      `json:"epoch,omitempty"` // of this host's ownership
	Mount     *cut.Volume `json:"mount,omitempty"` // what is mounted, once it is
	// Identity is of the connection that it is mounted by, where the pool's fencer
	// knows this host by one.
	Identity *backends.Identity `json:"identity,omitempty"`
	Lost     string             `json:"lost,omitempty"` // why this host may not use it any more: it is being cut off

	mounted bool // as last seen in the mount table
}

// use counts the mounts that one engine made under one mount ID.
//
// Docker mounts a container's volume under the same ID again while it runs,
// and unmounts it again (docker cp, moby#34665): so there is a count. An
// engine that crashed mounts under the same ID again without having unmounted:
// so the first Mount of a new engine starts the count anew.
type use struct {
	Count  int          `json:"count"`
	Engine host.Process `json:"engine"` // zero if the peer's process is not known
	Since  time.Time    `json:"since"`
}

// add counts a Mount of id by engine.
func (e entry) add(id string, engine host.Process, now time.Time) entry {
	u := e.Uses[id]
	if u.Count == 0 || u.Engine != engine {
		u = use{Engine: engine, Since: now.UTC()}
	}
	u.Count++
	e.Uses = maps.Clone(e.Uses)
	if e.Uses == nil {
		e.Uses = make(map[string]use)
	}
	e.Uses[id] = u
	return e
}

// drop counts an Unmount of id, which may be unknown.
func (e entry) drop(id string) entry {
	u, ok := e.Uses[id]
	if !ok {
		return e
	}
	e.Uses = maps.Clone(e.Uses)
	if u.Count--; u.Count > 0 {
		e.Uses[id] = u
	} else {
		delete(e.Uses, id)
	}
	return e
}

// keep drops the uses that keep says no to.
func (e entry) keep(keep func(use) bool) entry {
	e.Uses = maps.Clone(e.Uses)
	maps.DeleteFunc(e.Uses, func(_ string, u use) bool { return !keep(u) })
	return e
}

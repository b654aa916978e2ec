//go:build ceph && cgo

package cephfs

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/backends/local"
)

// A fence leaves the shared client of its host alone, which may be alive and serve other
// volumes. If it is dead, or frozen, it never lets go of the pool's directories, and who
// takes the volume over waits for that, until the MDS ends it after session_timeout. So the
// MDS are asked for some time, from the beginning of a fence on, whether they wait for it, and
// it is ended if they have for as long as latePatience, and the host is fenced: what a client
// that is alive is asked for it gives in an instant.
const (
	latePatience = 1500 * time.Millisecond
	lateInterval = 250 * time.Millisecond
	lateTime     = 2 * time.Minute
)

// lateWatches are those under way.
type lateWatches struct {
	ctx     context.Context
	end     context.CancelFunc
	running sync.Map // by what is fenced
	wait    sync.WaitGroup
}

// lateWatch is one.
type lateWatch struct {
	fenced atomic.Bool // the host is, and what keeps others waiting may be ended
}

// watchLate begins to see to it that shared clients of a host that is being fenced, which had
// a client with that address, keep nobody waiting once it is.
func (p FencingPool) watchLate(f backends.Fence, of ceph.Address) *lateWatch {
	key, watch := fmt.Sprint(f.ID, of), new(lateWatch)
	if other, running := p.late.running.LoadOrStore(key, watch); running {
		return other.(*lateWatch)
	}
	go p.ask(f)
	p.late.wait.Go(func() {
		defer p.late.running.Delete(key)
		ctx, cancel := context.WithTimeout(p.late.ctx, lateTime)
		defer cancel()
		since := make(map[wanted]time.Time)
		for shared, said := true, false; shared; {
			var err error
			if shared, err = p.endLate(ctx, f, of, watch, since); err != nil && ctx.Err() == nil {
				if !said {
					p.log.Warn("it is not known yet whether clients of a host that was fenced keep others waiting", "host", f.Host, "err", err)
				}
				shared, said = true, true
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(lateInterval):
			}
		}
	})
	return watch
}

// ask looks at what the volume's next owner will look at, so that the MDS ask for it now who
// has it. It may wait for that, and what it finds says nothing to anybody.
func (p FencingPool) ask(f backends.Fence) {
	ctx, cancel := context.WithTimeout(p.late.ctx, lateTime)
	defer cancel()
	_, _ = p.Stamped(ctx, f.ID)
	_, _ = p.Stat(ctx, f.Handle)
}

// wanted is what a client was asked to let go of.
type wanted struct {
	session int64
	path    string
	asked   int64 // numbers what it was asked
}

// endLate ends the shared clients of a host that is fenced and have kept others waiting for
// too long, by what was wanted of them since when. It tells whether the host has such clients.
func (p FencingPool) endLate(ctx context.Context, f backends.Fence, of ceph.Address, watch *lateWatch, since map[wanted]time.Time) (shared bool, err error) {
	l, err := ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (l late, err error) {
		err = p.eachRank(conn, func(tell tell) error { return p.look(tell, f, of, &l) })
		return l, err
	})
	if err != nil {
		return false, err
	}
	now := time.Now()
	var ids []int64
	for _, w := range l.wanted {
		if since[w].IsZero() {
			since[w] = now
		}
		if watch.fenced.Load() && now.Sub(since[w]) >= latePatience && !slices.Contains(ids, w.session) {
			p.log.Warn("the shared client of a host that was fenced does not let go of what others need, and is ended", "host", f.Host, "client", w.session, "path", w.path)
			ids = append(ids, w.session)
		}
	}
	if len(ids) == 0 {
		return l.shared, nil
	}
	return true, p.evictAll(ctx, func(s session) bool { return slices.Contains(ids, s.ID) })
}

// late is what MDS say of the shared clients of a host: whether there are any, and what
// is wanted of them.
type late struct {
	shared bool
	wanted []wanted
}

// look adds what one MDS says.
func (p FencingPool) look(tell tell, f backends.Fence, of ceph.Address, l *late) error {
	sessions, err := tell.sessions()
	if err != nil {
		return err
	}
	shared := make(map[int64]bool)
	for _, s := range sessions {
		if p.isShared(s) && s.address().SameHost(of) {
			shared[s.ID] = true
		}
	}
	if len(shared) == 0 {
		return nil
	}
	l.shared = true
	for _, below := range p.touched(f.ID, f.Handle) {
		depth := 0
		if p.config.SubvolumeGroup != "" && below == f.Handle {
			depth = 1 // its data, whose name only the volume's new owner finds out
		}
		text, err := tell(map[string]any{"prefix": "dump tree", "root": p.pathOf(below), "depth": depth, "format": "json"})
		if err != nil || len(text) == 0 { // it does not have that in memory, so nobody has it in use
			continue
		}
		all, err := parseWanted(text, below)
		if err != nil {
			return err
		}
		for _, w := range all {
			if shared[w.session] {
				l.wanted = append(l.wanted, w)
			}
		}
	}
	return nil
}

// touched are the paths in the pool of what a host looks at or changes that comes to have
// a volume, but for what is in the volume.
func (p FencingPool) touched(id, handle string) []string {
	if p.config.SubvolumeGroup == "" {
		return local.Touched(id, handle)
	}
	touched := []string{"", handle}
	for _, record := range local.Touched(id, ".") {
		touched = append(touched, path.Join(recordsDir, record))
	}
	return touched
}

var sharedPoint = regexp.MustCompile(`/cephfs/([^/]+)/` + sharedKey + `\.[0-9a-f]{8}$`)

// isShared tells whether a session is that of another host's shared client of the pool.
func (p FencingPool) isShared(s session) bool {
	if s.Client.User != p.config.Cluster.User || p.isOurs(s) {
		return false
	}
	if s.Client.Kernel != "" { // one of a volume alone has the directory of that for its root
		return s.Client.Root == p.pathOf("")
	}
	m := sharedPoint.FindStringSubmatch(s.Client.Mountpoint)
	return m != nil && m[1] == p.name
}

// parseWanted parses what an MDS says of a file: it wants some of what it has issued back
// where that is more than what it means the client to have.
func parseWanted(text []byte, path string) (all []wanted, err error) {
	var inodes []struct {
		Caps []struct {
			Client  int64  `json:"client_id"`
			Pending string `json:"pending"`
			Issued  string `json:"issued"`
			Sent    int64  `json:"last_sent"`
		} `json:"client_caps"`
	}
	if err := json.Unmarshal(text, &inodes); err != nil {
		return nil, fmt.Errorf("read what clients have of %q: %w", path, err)
	}
	for _, i := range inodes {
		for _, c := range i.Caps {
			if c.Issued != c.Pending {
				all = append(all, wanted{c.Client, path, c.Sent})
			}
		}
	}
	return all, nil
}

package gluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
)

// volumeInfo is what glusterd says of a Gluster volume.
type volumeInfo struct {
	Name      string   `xml:"name"`
	ID        string   `xml:"id"`
	Replica   int      `xml:"replicaCount"`    // 1 if there is none
	Disperse  int      `xml:"disperseCount"`   // 0 if there is none,
	Redundant int      `xml:"redundancyCount"` // of which so many may be missing
	Bricks    []brick  `xml:"bricks>brick"`
	Options   []option `xml:"options>option"`
}

type brick struct {
	Name string `xml:"name"` // HOST:PATH
}

type option struct {
	Name  string `xml:"name"`
	Value string `xml:"value"`
}

// info asks for it.
func (m management) info(ctx context.Context, volume string) (volumeInfo, error) {
	var answer struct {
		Volumes []volumeInfo `xml:"volInfo>volumes>volume"`
	}
	if err := m.run(ctx, &answer, "volume", "info", volume); err != nil {
		return volumeInfo{}, err
	}
	if len(answer.Volumes) != 1 || answer.Volumes[0].ID == "" || len(answer.Volumes[0].Bricks) == 0 {
		return volumeInfo{}, fmt.Errorf("glusterd does not describe Gluster volume %s: %w", volume, backends.ErrUnavailable)
	}
	return answer.Volumes[0], nil
}

// infoHolds is how long it is believed which Gluster volume has a name, and on which
// servers, by a host that has just fenced another from it, and takes its place.
const infoHolds = 20 * time.Second

// recent is what glusterd said, and when.
type recent struct {
	volumeInfo
	at time.Time
}

func (p *Pool) keepInfo(v volumeInfo) { p.recent.Store(v.Name, recent{v, time.Now()}) }

// recentInfo is info, perhaps of a moment ago. Options may have changed since.
func (p *Pool) recentInfo(ctx context.Context, volume string) (volumeInfo, error) {
	if known, ok := p.recent.Load(volume); ok {
		if r := known.(recent); time.Since(r.at) < infoHolds {
			return r.volumeInfo, nil
		}
	}
	return p.manage.info(ctx, volume)
}

// option is what an option was set to, or "".
func (v volumeInfo) option(name string) string {
	for _, o := range v.Options {
		if o.Name == name {
			return o.Value
		}
	}
	return ""
}

// servers are the names or addresses of those that have bricks.
func (v volumeInfo) servers() []string {
	var all []string
	for _, b := range v.Bricks {
		if at := strings.Index(b.Name, ":/"); at > 0 {
			all = append(all, b.Name[:at])
		}
	}
	return all
}

// group is how many bricks, in the order of Bricks, hold the same files.
func (v volumeInfo) group() int { return max(1, v.Replica, v.Disperse) }

// least is how many bricks of a group it takes for a write to be accepted.
// quorum says whether clients need more than half of the replicas
// (cluster.quorum-type auto; of an even number half will do, with the first).
func (v volumeInfo) least(quorum bool) int {
	switch {
	case v.Disperse > 0:
		return v.Disperse - v.Redundant
	case quorum && v.Replica > 2:
		return (v.Replica + 1) / 2
	}
	return 1
}

// seenClients are the addresses of the clients of the bricks, by the brick, as
// those see them; of bricks that don't run or whose glusterd does not answer there
// is none.
func (m management) seenClients(ctx context.Context, volume string) (map[string][]netip.AddrPort, error) {
	var answer struct {
		Nodes []struct {
			Host    string   `xml:"hostname"`
			Path    string   `xml:"path"`
			Online  int      `xml:"status"`
			Clients []string `xml:"clientsStatus>client>hostname"`
		} `xml:"volStatus>volumes>volume>node"`
	}
	if err := m.run(ctx, &answer, "volume", "status", volume, "clients"); err != nil {
		return nil, err
	}
	seen := make(map[string][]netip.AddrPort)
	for _, n := range answer.Nodes {
		if n.Online != 1 || !strings.HasPrefix(n.Path, "/") {
			continue
		}
		clients := []netip.AddrPort{}
		for _, name := range n.Clients {
			c, err := parseClient(name)
			if err != nil {
				return nil, err
			}
			clients = append(clients, c)
		}
		seen[n.Host+":"+n.Path] = clients
	}
	return seen, nil
}

// parseClient parses ADDRESS:PORT, where the address may be of IP version 6, which
// is not in brackets.
func parseClient(name string) (netip.AddrPort, error) {
	at := strings.LastIndexByte(name, ':')
	if at < 0 {
		return netip.AddrPort{}, fmt.Errorf("client %q of a brick is no address and port", name)
	}
	c, err := netip.ParseAddrPort("[" + name[:at] + "]" + name[at:])
	if err != nil {
		c, err = netip.ParseAddrPort(name)
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("client of a brick: %w", err)
	}
	return netip.AddrPortFrom(c.Addr().Unmap(), c.Port()), nil
}

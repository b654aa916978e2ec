package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

// What the tests read of the operator's commands.
type (
	pool struct {
		Name   string
		Shared bool
		Hosts  []string
	}
	show struct {
		ID         string
		Generation uint64
		Problem    string
	}
	findings struct {
		Findings []struct{ Name, Pool, State, Problem string }
	}
)

// ask runs an operator's command with an answer in JSON.
func ask[T any](h *host, args ...string) (answer T) {
	h.t.Helper()
	h.must(json.Unmarshal([]byte(h.dvold(append(args, "--output", "json")...)), &answer))
	return answer
}

func (h *host) inspect(name string) adminapi.Details {
	h.t.Helper()
	d, err := h.Admin.Inspect(h.ctx, name)
	h.must(err)
	return d
}

func (h *host) volumes() []volumes.Volume {
	h.t.Helper()
	all, err := h.Admin.Volumes(h.ctx)
	h.must(err)
	return all
}

func (h *host) members() []volumes.Host {
	h.t.Helper()
	all, err := h.Admin.Hosts(h.ctx)
	h.must(err)
	return all
}

// member is a host as this one sees it.
func (h *host) member(name string) (volumes.Host, error) {
	h.t.Helper()
	all, err := h.Admin.Hosts(h.ctx)
	if err != nil {
		return volumes.Host{}, err
	}
	i := slices.IndexFunc(all, func(m volumes.Host) bool { return m.Name == name })
	if i < 0 {
		return volumes.Host{}, fmt.Errorf("%s does not see host %s: %+v", h.Name(), name, all)
	}
	return all[i], nil
}

// sees is member for one that must be there.
func (h *host) sees(name string) volumes.Host {
	h.t.Helper()
	m, err := h.member(name)
	h.must(err)
	return m
}

// wantLive waits until this host sees that another is live, or isn't.
func (h *host) wantLive(name string, live bool) {
	h.t.Helper()
	h.eventually("host "+name, func() error {
		m, err := h.member(name)
		if err == nil && m.Live != live {
			err = fmt.Errorf("live = %v, want %v", m.Live, live)
		}
		return err
	})
}

// wantBelief waits until this host is in the cluster and believes its records.
func (h *host) wantBelief() {
	h.t.Helper()
	h.eventually("cluster show", func() error {
		s, err := h.Admin.Cluster(h.ctx)
		if err == nil && s.Problem != "" {
			err = errors.New(s.Problem)
		}
		return err
	})
}

// wantHolders waits until this host sees that exactly those hosts hold a volume.
func (h *host) wantHolders(name string, hosts ...string) {
	h.t.Helper()
	h.eventually("holders of "+name, func() error {
		var got []string
		v, err := h.Admin.Inspect(h.ctx, name)
		if err != nil {
			return err
		}
		for _, holder := range v.Holders {
			got = append(got, holder.Host)
		}
		if !slices.Equal(got, hosts) || v.Problem != "" {
			return fmt.Errorf("they are %v (%s), want %v", got, v.Problem, hosts)
		}
		return nil
	})
}

// listed tells whether docker volume ls shows a volume.
func (h *host) listed(name string) bool {
	h.t.Helper()
	return slices.Contains(strings.Fields(h.docker("volume", "ls", "-q")), name)
}

// label is what docker volume inspect shows of a volume's labels.
func (h *host) label(name string) string {
	h.t.Helper()
	return h.docker("volume", "inspect", name, "--format", `{{index .Labels "team"}}`)
}

package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What the tests read of the operator's commands.
type (
	volume struct {
		Name, ID, Pool, Home, Access string
		Mounted                      bool
		Mountpoint, Problem          string
		AsOf                         string `json:"as_of"`
		Holders                      []struct {
			Host string
			Live bool
		}
	}
	member struct {
		Name           string
		Live, Draining bool
		Incarnation    uint64
		Holds          int
	}
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
	answer, err := tryAsk[T](h, args...)
	h.must(err)
	return answer
}

func tryAsk[T any](h *host, args ...string) (answer T, err error) {
	out, err := h.Dvold(h.ctx, append(args, "--output", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}
	return answer, err
}

func (h *host) inspect(name string) volume {
	h.t.Helper()
	return ask[volume](h, "volume", "inspect", name)
}

func (h *host) volumes() []volume {
	h.t.Helper()
	return ask[[]volume](h, "volume", "ls")
}

func (h *host) members() []member {
	h.t.Helper()
	return ask[[]member](h, "host", "ls")
}

// member is a host as this one sees it.
func (h *host) member(name string) (member, error) {
	h.t.Helper()
	all, err := tryAsk[[]member](h, "host", "ls")
	if err != nil {
		return member{}, err
	}
	i := slices.IndexFunc(all, func(m member) bool { return m.Name == name })
	if i < 0 {
		return member{}, fmt.Errorf("%s does not see host %s: %+v", h.Name(), name, all)
	}
	return all[i], nil
}

// sees is member for one that must be there.
func (h *host) sees(name string) member {
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
		if s := ask[show](h, "cluster", "show"); s.Problem != "" {
			return errors.New(s.Problem)
		}
		return nil
	})
}

// wantHolders waits until this host sees that exactly those hosts hold a volume.
func (h *host) wantHolders(name string, hosts ...string) {
	h.t.Helper()
	h.eventually("holders of "+name, func() error {
		var got []string
		v, err := tryAsk[volume](h, "volume", "inspect", name)
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

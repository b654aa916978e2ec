package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// Consul's agents probe each other, and this check of a node is critical some
// seconds after its agent stopped answering. That ends no session of ours, but
// is sooner than a TTL. The permissions for it are optional, in acl.hcl.
const serfHealth = "serfHealth"

const hintTime = time.Second // for one attempt; a hint is worth no longer wait

// agentNode returns the name in Consul's catalog of the machine that dvold runs
// on, as its agent says, or an error if that is not to be known.
func (s *Store) agentNode(ctx context.Context) (string, error) {
	var self struct {
		Config struct{ NodeName string }
		Member struct{ Addr string }
	}
	if f := s.client.try(ctx, hintTime, func(consul *api.Client, q *api.QueryOptions) error {
		_, err := consul.Raw().Query("/v1/agent/self", &self, q)
		return err
	}); f != nil {
		return "", f
	}
	if self.Config.NodeName == "" {
		return "", errors.New("the agent does not tell its node")
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("list this machine's addresses: %w", err)
	}
	ip := net.ParseIP(self.Member.Addr)
	if !slices.ContainsFunc(addresses, func(a net.Addr) bool {
		own, ok := a.(*net.IPNet)
		return ok && own.IP.Equal(ip)
	}) {
		return "", fmt.Errorf("the agent, at %s, is on another machine", self.Member.Addr)
	}
	return self.Config.NodeName, nil
}

// suspect sets Suspect of the hosts whose node, by the host's name, Consul finds
// down. Any server may answer; if none does, or the token may not see nodes,
// nobody is suspect.
func (s *Store) suspect(ctx context.Context, hosts []coordination.Host, nodes map[string]string) {
	if len(nodes) == 0 {
		return
	}
	filter := fmt.Sprintf("CheckID == %q", serfHealth)
	for _, node := range nodes {
		if len(nodes) == 1 { // however many others have failed
			filter += fmt.Sprintf(" and Node == %q", node)
		}
	}
	var failed api.HealthChecks
	if f := s.client.try(ctx, hintTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.AllowStale, q.Filter = true, filter
		failed, _, err = consul.Health().State(api.HealthCritical, q)
		return err
	}); f != nil {
		s.log.DebugContext(ctx, "could not ask for the health of hosts", "error", f)
		return
	}
	for i, h := range hosts {
		node := nodes[h.Name]
		hosts[i].Suspect = node != "" && slices.ContainsFunc(failed, func(c *api.HealthCheck) bool { return c.Node == node })
	}
}

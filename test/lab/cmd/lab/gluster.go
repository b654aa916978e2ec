package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/test/lab"
)

func glusterCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "gluster kill|start NODE",
		Short: "End glusterd and the brick of a GlusterFS node as a crash does, or start what doesn't run of them",
		Args:  cobra.ExactArgs(2),
		RunE:  func(c *cobra.Command, args []string) error { return order(c, *dir, "gluster", args[1], args[0]) },
	}
}

// glusterPool is the pool gluster. Where guards run, its exclusive volumes can be
// taken over when their lease is over.
func glusterPool(guard bool) string {
	addresses := make([]string, 0, 3)
	for _, a := range lab.GlusterAddresses() {
		addresses = append(addresses, a.String())
	}
	servers := "[" + strings.Join(addresses, ", ") + "]"
	exclusive := "{servers: " + servers + "}"
	if guard {
		exclusive = "{takeover: auto, accept_lease: true, servers: " + servers + "}"
	}
	return fmt.Sprintf("  gluster: {type: gluster, servers: %s, volume: %s, management: [%s], exclusive: %s}\n",
		servers, lab.GlusterVolume, lab.GlusterManagement, exclusive)
}

// glusterNode is the node of that name, nil if there is none.
func (s *supervisor) glusterNode(name string) *lab.GlusterNode {
	if gluster := s.cluster.Gluster(); gluster != nil {
		for _, n := range gluster.Nodes() {
			if n.Name() == name {
				return n
			}
		}
	}
	return nil
}

// actOnGluster ends or starts what GlusterFS runs on a node.
func (s *supervisor) actOnGluster(ctx context.Context, name, act string) (string, error) {
	n := s.glusterNode(name)
	switch {
	case n == nil:
		return "", fmt.Errorf("%s is no GlusterFS node", name)
	case act == "kill":
		return name + " runs glusterd and its brick no more", s.cluster.Gluster().Kill(n)
	case act == "start":
		return name + " runs glusterd", s.cluster.Gluster().Start(ctx, n)
	}
	return "", fmt.Errorf("%q is nothing that can be done to GlusterFS", act)
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/test/lab"
)

func cephCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "ceph kill|start NODE",
		Short: "End the daemons of a Ceph node as a crash does, or start what doesn't run of them",
		Args:  cobra.ExactArgs(2),
		RunE:  func(c *cobra.Command, args []string) error { return order(c, *dir, "ceph", args[1], args[0]) },
	}
}

// cephPools are the pools images, for exclusive volumes, and files.
func cephPools() string {
	var monitors []string
	for _, a := range lab.CephAddresses() {
		monitors = append(monitors, a.String())
	}
	cluster := fmt.Sprintf("cluster: {monitors: [%s], user: %s}, fencer: %s", strings.Join(monitors, ", "), lab.CephUser, lab.CephFencer)
	return fmt.Sprintf("  images: {type: rbd, pool: %s, size: 256M, %[2]s}\n  files: {type: cephfs, filesystem: %[3]s, %[2]s}\n", lab.CephPool, cluster, lab.CephFileSystem)
}

// cephNode is the node of that name, nil if there is none.
func (s *supervisor) cephNode(name string) *lab.CephNode {
	if ceph := s.cluster.Ceph(); ceph != nil {
		for _, n := range ceph.Nodes() {
			if n.Name() == name {
				return n
			}
		}
	}
	return nil
}

// actOnCeph ends or starts what a node runs of Ceph.
func (s *supervisor) actOnCeph(ctx context.Context, name, act string) (string, error) {
	n := s.cephNode(name)
	switch {
	case n == nil:
		return "", fmt.Errorf("%s is no node of Ceph", name)
	case act == "kill":
		return name + " runs nothing of Ceph any more", s.cluster.Ceph().Kill(n)
	case act == "start":
		return name + " runs Ceph", s.cluster.Ceph().Start(ctx, n)
	}
	return "", fmt.Errorf("%q is nothing that can be done to Ceph", act)
}

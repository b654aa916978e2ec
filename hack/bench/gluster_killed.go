package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dvol/dvold/test/lab"
)

// glusterKilledConfiguration has a pool that fences by its management, and one
// that can't.
const glusterKilledConfiguration = `coordination: {type: consul, lease_ttl: %v}
guard: {cut_time: %v, reboot_command: ` + lab.RebootCommand + `}
default_pool: fenced
pools:
  fenced:
    {type: gluster, servers: [%s], volume: ` + lab.GlusterVolume + `, subdir: fenced, management: [` + lab.GlusterManagement + `]}
  leased:
    type: gluster
    servers: [%[3]s]
    volume: ` + lab.GlusterVolume + `
    subdir: leased
    exclusive: {takeover: auto, on_session_loss: cut, accept_lease: true}
`

// glusterScene has both pools in one Gluster volume, which lies on servers of its
// own. What has been written is looked at on the first.
func glusterScene() scene {
	return scene{
		name:    "gluster",
		lab:     lab.ClusterOptions{Gluster: true},
		config:  fmt.Sprintf(glusterKilledConfiguration, exclusiveTTL, cutTime, glusterServers()),
		atOnce:  1, // a fence is several commands of gluster(8), which take processors
		start:   startGlusterPools,
		victims: leasedAndFenced,
		text: textIn(func(c *lab.Cluster, pool string) string {
			return c.Gluster().Node(1).Brick(pool)
		}),
	}
}

// startGlusterPools starts GlusterFS and makes the directories of the pools.
func startGlusterPools(ctx context.Context, c *lab.Cluster) error {
	if err := c.StartGluster(ctx); err != nil {
		return err
	}
	return errors.Join(c.Gluster().MakeDir(ctx, fenced), c.Gluster().MakeDir(ctx, leased))
}

// Package gluster keeps volumes as directories of a GlusterFS volume.
package gluster

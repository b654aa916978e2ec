package main

import (
	"context"
	"os"

	"github.com/dvol/dvold/test/lab"
)

// status is what the lab is like.
type status struct {
	Supervisor int             `json:"supervisor"` // its process ID
	Machines   []machineStatus `json:"machines"`
}

type machineStatus struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	State   string   `json:"state"` // up, down or frozen
	CutOff  []string `json:"cut_off"`
	Daemons []string `json:"daemons"` // those that run
	Frozen  []string `json:"frozen"`  // of these, those that are frozen alone
	Leader  bool     `json:"leader"`  // of the Consul servers
}

func (s *supervisor) status(ctx context.Context) status {
	leader, _ := s.cluster.Leader(ctx) // there may be none
	now := status{Supervisor: os.Getpid()}
	for _, h := range s.cluster.Hosts() {
		now.Machines = append(now.Machines, describe(h.Machine))
	}
	for _, server := range s.cluster.Servers() {
		m := describe(server.Machine)
		m.Leader = server == leader
		now.Machines = append(now.Machines, m)
	}
	if storage := s.cluster.Storage(); storage != nil {
		now.Machines = append(now.Machines, describe(storage.Machine))
	}
	if gluster := s.cluster.Gluster(); gluster != nil {
		for _, n := range gluster.Nodes() {
			m := describe(n.Machine)
			if pid, err := n.BrickPID(); err == nil && pid != 0 {
				m.Daemons = append(m.Daemons, "brick")
			}
			now.Machines = append(now.Machines, m)
		}
	}
	if ceph := s.cluster.Ceph(); ceph != nil {
		for _, n := range ceph.Nodes() {
			now.Machines = append(now.Machines, describe(n.Machine))
		}
	}
	return now
}

func describe(m *lab.Machine) machineStatus {
	s := machineStatus{Name: m.Name(), Address: m.Address().String(), State: "down"}
	switch {
	case m.Frozen():
		s.State = "frozen"
	case m.Up():
		s.State = "up"
	}
	for _, from := range m.CutOff() {
		s.CutOff = append(s.CutOff, string(from))
	}
	for _, d := range m.Daemons() {
		if d.Running() {
			s.Daemons = append(s.Daemons, d.Name())
		}
		if d.Frozen() {
			s.Frozen = append(s.Frozen, d.Name())
		}
	}
	return s
}

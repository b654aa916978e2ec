package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// cephCommand is ceph(8), which takes more than half a second of a processor to start,
// and then any number of commands from its standard input.
func (c *Ceph) cephCommand(ctx context.Context, args ...string) (*CephNode, *exec.Cmd, error) {
	running := c.running()
	if len(running) == 0 {
		return nil, nil, errors.New("run ceph: no monitor runs")
	}
	n := running[0]
	return n, n.Command(ctx, append([]string{"ceph", "--connect-timeout=20"}, args...)...), nil
}

// order gives the monitors commands, one after the other.
func (c *Ceph) order(ctx context.Context, commands []string) error {
	n, cmd, err := c.cephCommand(ctx)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(commands, "\n")+"\n"), &said
	err = n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("run ceph: %w: %s", err, said.String())
	}
	for line := range strings.Lines(said.String()) { // its exit status tells nothing of them
		if strings.HasPrefix(line, "Error") || strings.HasPrefix(line, "error") || strings.HasPrefix(line, "Invalid") {
			return errors.New("ceph: " + strings.TrimSpace(line))
		}
	}
	return nil
}

// cephStatus is what the lab reads of a cluster's status.
type cephStatus struct {
	Mgr struct {
		Available bool `json:"available"`
	} `json:"mgrmap"`
	FS struct {
		Ranks []struct {
			Status string `json:"status"`
		} `json:"by_rank"`
	} `json:"fsmap"`
	PGs struct {
		Total  int `json:"num_pgs"`
		States []struct {
			Name  string `json:"state_name"`
			Count int    `json:"count"`
		} `json:"pgs_by_state"`
	} `json:"pgmap"`
}

// awaitStatus waits until check is content with the cluster's status.
func (c *Ceph) awaitStatus(ctx context.Context, check func(cephStatus) error) error {
	return poll(ctx, func() error { return c.pollStatus(ctx, check) })
}

// pollStatus does so for as long as one ceph(8) does.
func (c *Ceph) pollStatus(ctx context.Context, check func(cephStatus) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, cmd, err := c.cephCommand(ctx, "--format=json")
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "PYTHONUNBUFFERED=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.Start(cmd); err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	answers := json.NewDecoder(out)
	for {
		var s cephStatus
		if _, err = fmt.Fprintln(in, "status"); err == nil {
			err = answers.Decode(&s)
		}
		if err != nil {
			return fmt.Errorf("the status of Ceph: %w", err)
		}
		if err = check(s); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serves tells what is missing for clients.
func (s cephStatus) serves() error {
	active := s.count("active")
	switch {
	case !s.Mgr.Available:
		return errors.New("no manager of Ceph is at work")
	case len(s.FS.Ranks) == 0 || s.FS.Ranks[0].Status != "up:active":
		return errors.New("no MDS of Ceph is at work")
	case s.PGs.Total == 0 || active < s.PGs.Total:
		return fmt.Errorf("of %d placement groups of Ceph %d are active", s.PGs.Total, active)
	}
	return nil
}

// clean tells whether any copies are missing.
func (s cephStatus) clean() error {
	if clean := s.count("active+clean"); s.PGs.Total == 0 || clean < s.PGs.Total {
		return fmt.Errorf("of %d placement groups of Ceph %d are clean", s.PGs.Total, clean)
	}
	return nil
}

// count counts the placement groups whose state begins so.
func (s cephStatus) count(state string) (n int) {
	for _, group := range s.PGs.States {
		if strings.HasPrefix(group.Name, state) {
			n += group.Count
		}
	}
	return n
}

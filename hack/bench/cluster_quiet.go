package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// Of a host that has little to do.
const (
	used      = 10      // volumes that it has mounted
	maxGrowth = 5 << 10 // KiB that its dvold may grow by while others make 100,000
)

// besideQuiet measures the other hosts, and h3 meanwhile.
func (b *clusterBench) besideQuiet() error {
	q, err := b.quiet()
	if err != nil {
		return err
	}
	for _, step := range []func() error{b.life, b.across, b.manyVolumes, q.end} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// quiet is the time that h3 spends with its volumes mounted and no calls, while
// the other hosts and Consul are busy.
type quiet struct {
	b      *clusterBench
	pid    int
	before size
	cpu    time.Duration
	began  time.Time
}

// quiet starts h3's dvold anew and lets it be, with a few volumes.
func (b *clusterBench) quiet() (*quiet, error) {
	h := b.host(idler)
	if err := h.StopDvold(); err != nil {
		return nil, err
	}
	if err := b.startDvold(idler); err != nil {
		return nil, err
	}
	for n := range used {
		name := fmt.Sprintf("used-%d", n)
		if err := h.dvol.create(b.ctx, name); err != nil {
			return nil, err
		}
		if err := h.dvol.mount(b.ctx, name, mountID(n)); err != nil {
			return nil, err
		}
	}
	q := &quiet{b: b}
	var err error
	if q.pid, err = dvoldOf(h); err != nil {
		return nil, err
	}
	if q.cpu, err = cpuTime(q.pid); err != nil {
		return nil, err
	}
	q.began = time.Now()
	b.counter.take()
	q.before, err = sizeOf(q.pid, "h3 uses 10 volumes, after its start")
	b.Sizes = append(b.Sizes, q.before)
	return q, err
}

// end looks at what h3 cost meanwhile, for a minute at least, then has it start
// anew and list all.
func (q *quiet) end() error {
	b, h := q.b, q.b.host(idler)
	pause(b.ctx, time.Until(q.began.Add(time.Minute)))
	minutes := time.Since(q.began).Minutes()
	counts := b.counter.take()
	if err := b.size(q.pid, "and others have made 100,000", q.before.RSS+maxGrowth); err != nil {
		return err
	}
	cpu, err := cpuTime(q.pid)
	if err != nil {
		return err
	}
	sum := 0
	for _, n := range counts {
		sum += n
	}
	b.Figures = append(b.Figures, figure{What: "requests to Consul of a host that nobody calls, 10 volumes mounted, others busy", Value: float64(sum) / minutes, Unit: "/min"})
	for k := range consultest.Kinds {
		b.Figures = append(b.Figures, figure{What: "of these, " + k.String(), Value: float64(counts[k]) / minutes, Unit: "/min"})
	}
	b.Figures = append(b.Figures, figure{What: "CPU of its dvold", Value: (cpu - q.cpu).Seconds() * 1000 / minutes, Unit: "ms/min"})

	if err := h.StopDvold(); err != nil {
		return err
	}
	if err := b.startDvold(idler); err != nil {
		return err
	}
	pid, err := dvoldOf(h)
	if err != nil {
		return err
	}
	if err := b.size(pid, "h3 after a start with 100,000 volumes in Consul", q.before.RSS+maxGrowth); err != nil {
		return err
	}
	if _, err := h.dvol.names(b.ctx); err != nil {
		return err
	}
	return b.size(pid, "and after a List of them", 0)
}

func (b *clusterBench) size(pid int, what string, under int) error {
	s, err := sizeOf(pid, what)
	s.Under = under
	b.Sizes = append(b.Sizes, s)
	return err
}

// dvoldOf finds the process of a host's dvold.
func dvoldOf(h member) (pid int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	own := []byte("serve\x00--state-dir\x00" + h.StateDir() + "\x00")
	for _, file := range files {
		if argv, err := os.ReadFile(file); err == nil && bytes.Contains(argv, own) {
			_, err = fmt.Sscan(filepath.Base(filepath.Dir(file)), &pid)
			return pid, err
		}
	}
	return 0, fmt.Errorf("%s has no dvold", h.Name())
}

// cpuTime is how long the threads of a process have run; see
// Documentation/scheduler/sched-stats.rst of Linux.
func cpuTime(pid int) (sum time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += ran
	}
	if sum == 0 {
		return 0, fmt.Errorf("the kernel does not tell how long process %d has run", pid)
	}
	return sum, nil
}

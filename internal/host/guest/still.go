package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrStill says that nothing ran in a guest any more, not even the loop that its init
// starts before all else. It has been seen of User-Mode Linux 6.1, twice in some hundred runs,
// and says nothing of the command.
var ErrStill = errors.New("the guest's kernel stands still")

const (
	// pulse is a file in Dir that the guest writes every 5 s.
	pulse = "pulse"
	// stillAfter is how long it may go without.
	stillAfter = 2 * time.Minute
)

// watch calls still once the guest has shown no sign of life for patience, also while it
// starts. One that is stopped, as StopOther does, may be.
func watch(ctx context.Context, dir string, pid int, patience time.Duration, still func(error)) {
	last, seen := time.Now(), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if info, err := os.Stat(filepath.Join(dir, pulse)); err == nil && info.ModTime() != seen {
			last, seen = time.Now(), info.ModTime()
		}
		if strings.HasPrefix(doing(pid), "T") {
			last = time.Now()
		}
		if time.Since(last) > patience {
			still(fmt.Errorf("%w, for %v; its processes: %s", ErrStill, patience, strings.Join(processes(pid), "; ")))
			return
		}
	}
}

// processes says of the kernel's process, and those that are the guest's, what they do.
func processes(pid int) (all []string) {
	pids := []string{strconv.Itoa(pid)}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err == nil {
		pids = append(pids, strings.Fields(string(children))...)
	}
	for _, p := range pids {
		if n, err := strconv.Atoi(p); err == nil {
			all = append(all, p+" "+doing(n))
		}
	}
	return all
}

// doing is the state of a process, the clock ticks that it ran for itself and in the machine's
// kernel, and what it waits for there: see proc_pid_stat(5), proc_pid_wchan(5) and proc_pid_syscall(5).
func doing(pid int) string {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	_, fields, ok := strings.Cut(string(stat), ") ")
	f := strings.Fields(fields)
	if err != nil || !ok || len(f) < 13 {
		return "gone"
	}
	wchan, _ := os.ReadFile(dir + "wchan")
	syscall, _ := os.ReadFile(dir + "syscall")
	return fmt.Sprintf("%s %s+%s %s %s", f[0], f[11], f[12], wchan, strings.TrimSpace(string(syscall)))
}

package engine

import "dunlin/internal/pool"

// LimitThreads bounds the threads of every Run of this process from the next
// step on, the caller's among them; 0 lifts it. Programs stay as they were
// compiled, and their outputs the same bits. It is for a board that gets too
// hot; Options.Threads says how many a program is cut for.
func LimitThreads(n int) { pool.Shared(0).Limit(n) }

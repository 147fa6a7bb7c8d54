package hub

// Count returns the number of sessions. It is cheap.
func (h *Hub) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

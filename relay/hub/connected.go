package hub

// Connected reports whether a node has a session with this relay. It does not block for long.
func (h *Hub) Connected(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[node] != nil
}

package devices

// snapshot is the worker's line in Status.
func (w *worker) snapshot() (DeviceState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil {
		return DeviceState{}, false
	}
	ready := w.readyCondition()
	s := DeviceState{
		Namespace: w.key.Namespace(), Name: w.key.Name(), State: w.state(), Ready: ready.Status == "True",
		Reason: ready.Reason, Message: ready.Message, LastOnline: w.lastOnline, Alarms: w.activeAlarms(), Since: w.status.since, Generation: w.plan.generation,
	}
	if valid := w.validCondition(); valid.Status != "True" {
		s.Reason, s.Message = valid.Reason, valid.Message
	}
	if w.plan.driver != nil {
		s.Protocol = w.plan.driver.Protocols()[0]
	}
	for i := range w.twins {
		if w.twins[i].watched {
			s.Watched++
		}
	}
	s.Properties = w.propertyStates(nil)
	return s, true
}

// propertyStates returns the twins of some properties, or of all, in the order of names or of the manifest.
func (w *worker) propertyStates(names []string) []PropertyState {
	var out []PropertyState
	for _, name := range names {
		if i := w.plan.find(name); i >= 0 {
			out = append(out, w.propertyState(i))
		}
	}
	if len(names) == 0 {
		out = make([]PropertyState, 0, len(w.plan.properties))
		for i := range w.plan.properties {
			out = append(out, w.propertyState(i))
		}
	}
	return out
}

func (w *worker) propertyState(i int) PropertyState {
	prop, t := &w.plan.properties[i], &w.twins[i]
	v := t.value.Value()
	p := PropertyState{Name: prop.name, Value: v.Text(), Unit: prop.unit, Type: prop.typ, Quality: v.Quality, Reason: v.Reason, At: v.Server}
	if t.wanted() {
		d := t.want.Desired()
		outcome, _ := t.want.Outcome()
		p.Desired, p.Outcome, p.Origin = d.Value, outcome.String(), d.Origin.String()
	}
	return p
}

// Device is one device of Status; false: there is none, or it has just come.
func (h *Host) Device(namespace, name string) (DeviceState, bool) {
	w, err := h.worker(namespace, name)
	if err != nil {
		return DeviceState{}, false
	}
	return w.snapshot()
}

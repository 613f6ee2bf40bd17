/// What a screen reader says of a change, once: the question, a fault or a pause, a new notice, and whether it listens or is
/// ready; nothing of the steps between.
public func announcement(from old: HearpackState, to new: HearpackState) -> HearpackText? {
    if new.asksHeadset != nil, new.asksHeadset != old.asksHeadset { return HearpackText.headsetQuestion }
    if !new.message.isEmpty, new.message != old.message, [.failed, .interrupted, .stopping, .needsSettings].contains(new.phase) {
        return new.message
    }
    if new.phase == .running, let notice = new.notices.first(where: { !old.notices.contains($0) }) { return notice }
    guard new.phase != old.phase else { return nil }
    switch new.phase {
    case .running: return HearpackText("Running")
    case .ready where new.message.isEmpty: return HearpackText("Ready")
    default: return nil
    }
}

extension HearpackText {
    public static let headsetQuestion = HearpackText(
        "Is this output a headset? Enhanced sound from a loudspeaker or a car would howl.")
}

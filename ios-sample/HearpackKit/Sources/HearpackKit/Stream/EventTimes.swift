/// When an event began and ended, for people, in samples of its stream: from the first hop that it was heard in to the end of
/// the last one. What is on in a stretch's first window has been on since the stretch began. The same as Python's
/// streaming/core/event_times.py.
///
/// - Parameters:
///   - event: one that is on, or is over.
///   - hopSamples: the decisions' hop.
///   - firstEnd: length of a stretch's first window.
public func eventSpan(_ event: SoundEvent, hopSamples: Int, firstEnd: Int) -> (begin: Int, end: Int?) {
    let begin = event.stretchBegin
    let inFirst = event.onsetSample - begin + hopSamples <= firstEnd
    return (inFirst ? begin : max(begin, event.onsetSample), event.offsetSample.map { $0 + hopSamples })
}

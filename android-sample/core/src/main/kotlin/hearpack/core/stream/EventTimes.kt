package hearpack.core.stream

/**
 * When an event began and ended, for people, in samples of its stream: from the first hop that it was heard in to the end of
 * the last one. What is on in a stream's first window has been on since the stream began. The same as Python's
 * streaming/core/event_times.py.
 *
 * @param hopSamples the decisions' hop.
 * @param firstEnd end of the stream's first window.
 */
fun eventSpan(
    event: SoundEvent,
    hopSamples: Int,
    firstEnd: Int,
): Pair<Long, Long?> {
    val inFirst = event.onsetSample + hopSamples <= firstEnd
    val begin = if (inFirst) 0L else maxOf(0L, event.onsetSample)
    return Pair(event.offsetOfRoute + begin, event.offsetSample?.plus(hopSamples + event.offsetOfRoute))
}

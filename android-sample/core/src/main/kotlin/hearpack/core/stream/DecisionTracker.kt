package hearpack.core.stream

import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.Decisions
import hearpack.core.bundle.StreamException

/**
 * A sound was detected. Reported twice: when it turns on (no offset yet) and when it is over.
 *
 * @property onsetSample begin, at the model's rate, counted from reset.
 * @property offsetSample end; null while it lasts.
 * @property confidence largest smoothed score so far.
 * @property emittedAtSample end of the window that made us say so; no part of the event's identity.
 * @property offsetOfRoute where the event's route began, in samples since the first one did: 0 until the microphone is
 *     opened again. The other figures count from the route's begin.
 */
data class SoundEvent(
    val label: String,
    val index: Int,
    val onsetSample: Long,
    val offsetSample: Long?,
    val confidence: Double,
    val emittedAtSample: Long,
    val offsetOfRoute: Long = 0,
)

fun interface EventSink {
    fun onEvent(event: SoundEvent)
}

private const val OFF: Byte = 0
private const val RUN: Byte = 1
private const val ON: Byte = 2

/**
 * Turns the scores of successive windows into events: streaming/core/decisions.py, comparison by comparison, in Double.
 *
 * Allocates only when a label turns on or off.
 *
 * @throws BundleException per_label names a label that there is not.
 */
class DecisionTracker(
    decisions: Decisions,
    private val labels: List<String>,
    sampleRateHz: Int,
    private val sink: EventSink,
) {
    private val hop = decisions.windowHopSamples
    private val depth = decisions.smoothingWindows
    private val onThreshold = DoubleArray(labels.size)
    private val offThreshold = DoubleArray(labels.size)
    private val minOnSamples = DoubleArray(labels.size)
    private val minOffSamples = DoubleArray(labels.size)
    private val recent = Array(depth) { DoubleArray(labels.size) }
    private val total = DoubleArray(labels.size)
    private val phase = ByteArray(labels.size)
    private val onset = LongArray(labels.size)
    private val lastOver = LongArray(labels.size)
    private val peak = DoubleArray(labels.size)
    private var windows = 0L
    private var lastEnd = Long.MIN_VALUE
    private var ended = false

    init {
        val unknown = decisions.perLabel.keys - labels.toSet()
        if (unknown.isNotEmpty()) {
            val message = "decisions: per_label names ${unknown.first()}, which is no label; correct the manifest"
            throw BundleException(BundleFault.INVALID, message)
        }
        labels.forEachIndexed { i, label ->
            val custom = decisions.perLabel[label]
            onThreshold[i] = custom?.onThreshold ?: decisions.onThreshold
            offThreshold[i] = custom?.offThreshold ?: decisions.offThreshold
            minOnSamples[i] = (custom?.minOnMs ?: decisions.minOnMs) * sampleRateHz / 1000.0
            minOffSamples[i] = (custom?.minOffMs ?: decisions.minOffMs) * sampleRateHz / 1000.0
        }
    }

    /** Begins a new stream: nothing is on, no score is remembered. */
    fun reset() {
        windows = 0
        lastEnd = Long.MIN_VALUE
        phase.fill(OFF)
        ended = false
    }

    /**
     * Takes in one window's scores.
     *
     * @param scores at least one per label.
     * @param windowEndSample the window's end, counted from reset; rising.
     */
    fun push(
        scores: FloatArray,
        windowEndSample: Long,
    ) {
        if (ended) throw StreamException("decisions: the stream was flushed; reset before the next window")
        if (windowEndSample <= lastEnd) {
            throw StreamException("decisions: a window that ends at $windowEndSample cannot follow one at $lastEnd")
        }
        lastEnd = windowEndSample
        smooth(scores)
        for (i in total.indices) {
            if (phase[i] == ON) whileOn(i, total[i], windowEndSample) else whileOff(i, total[i], windowEndSample)
        }
    }

    /** The stream is over: closes what is on. A run that has not lasted long enough is no event. */
    fun flush(endSample: Long) {
        ended = true
        for (i in phase.indices) {
            if (phase[i] == ON) close(i, endSample)
            phase[i] = OFF
        }
    }

    /** [total] becomes the mean of the last windows: added oldest first, then divided by how many there are. */
    private fun smooth(scores: FloatArray) {
        val newest = recent[(windows % depth).toInt()]
        for (i in newest.indices) newest[i] = scores[i].toDouble()
        windows++
        val count = minOf(windows, depth.toLong())
        total.fill(0.0)
        for (w in windows - count until windows) {
            val row = recent[(w % depth).toInt()]
            for (i in row.indices) total[i] += row[i]
        }
        for (i in total.indices) total[i] /= count.toDouble()
    }

    private fun whileOn(
        i: Int,
        s: Double,
        end: Long,
    ) {
        if (s >= offThreshold[i]) {
            lastOver[i] = end
            if (s > peak[i]) peak[i] = s
        } else if (end - lastOver[i] >= minOffSamples[i]) {
            phase[i] = OFF
            close(i, end)
        }
    }

    private fun whileOff(
        i: Int,
        s: Double,
        end: Long,
    ) {
        if (!(s >= onThreshold[i])) { // NaN ends a run too
            phase[i] = OFF
            return
        }
        if (phase[i] == OFF) {
            phase[i] = RUN
            onset[i] = end - hop
            peak[i] = s
        }
        lastOver[i] = end
        if (s > peak[i]) peak[i] = s
        if (end - onset[i] >= minOnSamples[i]) {
            phase[i] = ON
            sink.onEvent(SoundEvent(labels[i], i, onset[i], null, peak[i], end))
        }
    }

    private fun close(
        i: Int,
        atSample: Long,
    ) = sink.onEvent(SoundEvent(labels[i], i, onset[i], lastOver[i] - hop, peak[i], atSample))
}

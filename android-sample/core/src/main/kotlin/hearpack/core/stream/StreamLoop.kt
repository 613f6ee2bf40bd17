package hearpack.core.stream

import hearpack.core.audio.allFinite
import hearpack.core.audio.ceilDiv
import hearpack.core.audio.checkFinite
import hearpack.core.bundle.BufferKind
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.Manifest
import hearpack.core.bundle.StreamException

/** Receives what a loop gives; [values] is the loop's own array and valid only during the call. */
fun interface LoopSink {
    /**
     * @param endSample input samples, counted from reset, up to the end of what this call saw.
     * @param values the output.
     * @param count how many of them are valid.
     */
    fun onOutput(
        endSample: Long,
        values: FloatArray,
        count: Int,
    )
}

/**
 * Blocks of any size in, fixed buffers into the engine, results out: streaming/core/loop.py on a phone.
 *
 * A step net takes buffer samples of new audio a call; a window net sees buffer samples every hop, and the overlap is
 * kept here. At flush zeros are fed once, as docs/bundle.md says. No allocation after construction.
 *
 * Output that is not finite never gets out, and never stays: such a call gives silence (scores: nothing), the state goes
 * back to its reset value and the stream goes on, as docs/dsp.md says.
 *
 * @param recover false gives such output as it is and keeps the state: for who judges a net.
 */
class StreamLoop(
    private val engine: InferenceEngine,
    manifest: Manifest,
    private val sink: LoopSink,
    private val meter: CallMeter? = null,
    private val recover: Boolean = true,
) {
    private val rate = manifest.geometry.sampleRateHz
    private val delay = manifest.geometry.delaySamples
    private val step = manifest.buffer.kind == BufferKind.STEP
    private val size = manifest.buffer.samples
    private val hop = manifest.hopSamples
    private val output = FloatArray(manifest.outputs.first().size)
    private val audioOut = step && output.size == size
    private val buffer = FloatArray(size)
    private val zeros = FloatArray(minOf(size, 4096))
    private var filled = 0 // samples held, from the front of the buffer
    private var skip = 0 // samples to drop before the next window begins
    private var start = 0L // absolute index of the buffer's first sample
    private var outSamples = 0L
    private var wanted = Long.MAX_VALUE // audio is cut there
    private var bank = 0
    private var ended = false

    /** Samples taken in since reset, without a flush's zeros. */
    var inSamples = 0L
        private set

    /** Calls of the engine since reset. */
    var calls = 0L
        private set

    /** Calls since reset whose output was not finite; each put the state back to its reset value. */
    var nanOutputs = 0L
        private set

    /** New samples that the next call waits for. */
    val missing: Int get() = skip + size - filled

    init {
        reset()
    }

    /** Begins a new stream: reset state, nothing held. */
    fun reset() {
        resetState()
        filled = 0
        skip = 0
        start = 0
        outSamples = 0
        wanted = Long.MAX_VALUE
        ended = false
        inSamples = 0
        calls = 0
        nanOutputs = 0
    }

    private fun resetState() {
        engine.reset(0)
        engine.reset(1)
        bank = 0
    }

    /**
     * Takes in new samples and makes every call that is due.
     *
     * @throws StreamException NaN or Inf, nothing is taken in; or the stream was flushed or has failed.
     * @throws EngineException the engine failed; the stream has to be reset.
     */
    fun push(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        if (ended) throw StreamException("loop: the stream was flushed or has failed; reset it before the next block")
        checkFinite(block, offset, count, inSamples, rate)
        inSamples += count
        feed(block, offset, count)
    }

    /** Ends the stream and gives what is still inside. */
    fun flush() {
        if (!ended && inSamples > 0) {
            if (step) {
                drain()
            } else {
                padWindow()
            }
        }
        ended = true
    }

    private fun feed(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        var taken = 0
        while (taken < count) {
            if (skip > 0) {
                val n = minOf(skip, count - taken)
                skip -= n
                taken += n
                continue
            }
            val n = minOf(size - filled, count - taken)
            System.arraycopy(block, offset + taken, buffer, filled, n)
            filled += n
            taken += n
            if (filled == size) call()
        }
    }

    private fun call() {
        meter?.begin(start + size)
        try {
            engine.run(buffer, output, bank, 1 - bank)
        } catch (e: EngineException) {
            ended = true
            meter?.failed(e.message ?: "no message")
            throw e
        }
        meter?.end()
        bank = 1 - bank
        calls++
        val end = start + size
        outSamples += output.size
        val keep = maxOf(0, size - hop)
        if (keep > 0) System.arraycopy(buffer, hop, buffer, 0, keep)
        filled = keep
        skip = maxOf(0, hop - size)
        start += hop
        if (recover && !allFinite(output)) {
            nanOutputs++
            resetState()
            if (!audioOut) return
            output.fill(0f)
        }
        val surplus = if (audioOut) maxOf(0L, outSamples - wanted).toInt() else 0
        if (!audioOut || surplus < output.size) sink.onOutput(end - surplus, output, output.size - surplus)
    }

    /** Step nets: zeros until inSamples + delay have gone in; audio is cut there. */
    private fun drain() {
        wanted = inSamples + delay
        feedZeros(ceilDiv(wanted, size.toLong()) * size - inSamples)
    }

    /** Window nets: one last window, if a sample would otherwise be seen by none. */
    private fun padWindow() {
        val covered = if (calls > 0) start - hop + size else 0L
        if (inSamples > maxOf(covered, start)) feedZeros((size - filled).toLong())
    }

    private fun feedZeros(count: Long) {
        var left = count
        while (left > 0) {
            val n = minOf(left, zeros.size.toLong()).toInt()
            feed(zeros, 0, n)
            left -= n
        }
    }
}

/** Gets to know when each call of the engine begins and ends. */
interface CallMeter {
    fun begin(endSample: Long)

    fun end()

    fun failed(message: String)
}

package hearpack.core.stream

import hearpack.core.audio.GatedEngine
import hearpack.core.audio.InputBound
import hearpack.core.audio.InputChain
import hearpack.core.audio.InputMeter
import hearpack.core.audio.OutputChain
import hearpack.core.audio.Resampler
import hearpack.core.audio.Stage
import hearpack.core.audio.WindowGate
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.bundle.Task

/** Receives an enhancer's sound; the array is the pipeline's own and valid only during the call. */
fun interface AudioSink {
    /**
     * @param endSample where the block ends in the output stream, at the model's rate.
     */
    fun onAudio(
        endSample: Long,
        samples: FloatArray,
        count: Int,
    )
}

/**
 * One stream from the device's samples to events or to enhanced sound: resampler, plain DSP, loop, decisions.
 * Belongs to the inference thread. No allocation after construction but for events.
 *
 * @param deviceRateHz rate of the blocks that are pushed.
 * @param maxBlock most samples pushed at a time.
 * @param onAudio gets an enhancer's sound at the model's rate.
 * @param onEvents gets a classifier's events.
 * @param withDsp false leaves the manifest's `dsp` out.
 * @param recording gets what the net is given.
 */
class Pipeline(
    bundle: Bundle,
    engine: InferenceEngine,
    val deviceRateHz: Int,
    private val maxBlock: Int,
    private val onAudio: AudioSink,
    onEvents: EventSink,
    meter: CallMeter? = null,
    withDsp: Boolean = true,
    private val recording: Recording? = null,
) {
    private val manifest = bundle.manifest
    private val rate = manifest.geometry.sampleRateHz
    private val stages = if (withDsp) manifest.dsp else emptyList()
    private val resampler = Resampler(deviceRateHz, rate)
    private val work = FloatArray(maxOf(resampler.mostOutputs(maxBlock), resampler.delayOutSamples + 4))
    private val ahead = work.size + manifest.buffer.samples
    private val door = InputBound()
    private val input = InputChain(stages, rate)
    private val output = OutputChain(stages, rate, manifest.geometry.delaySamples, ahead)
    private val tracker =
        manifest.decisions
            ?.takeIf { manifest.task == Task.CLASSIFIER }
            ?.let { DecisionTracker(it, bundle.labels, rate, onEvents) }
    private val loop = StreamLoop(gated(engine), manifest, ::take, meter)

    /** The input meter, after the stages before the net. */
    val meter: InputMeter get() = input.meter

    /** The newest scores, a classifier's; the pipeline's own array. */
    val scores = FloatArray(bundle.labels.size)

    /** New samples at the model's rate that the next call waits for. */
    val missing: Int get() = loop.missing

    /** The same in samples of the device, exactly. */
    internal val missingAtDevice: Int
        get() {
            val outputs = resampler.outSamples + loop.missing
            return ((outputs - 1) * resampler.down / resampler.up + 1 - resampler.inSamples).toInt()
        }

    /** Samples taken in since reset, at the model's rate. */
    val inSamples: Long get() = loop.inSamples

    val calls: Long get() = loop.calls

    /** Samples of the device since reset that were no numbers, and are silence now. */
    val nanSamples: Long get() = door.nanSamples

    /** Samples since reset that were limited before the net, of the device or after the stages before the net. */
    val limitedSamples: Long get() = door.limitedSamples + input.limitedSamples

    /** Calls since reset whose output was not finite: silence, or no scores; each reset the model's state. */
    val nanOutputs: Long get() = loop.nanOutputs

    private fun gated(engine: InferenceEngine): InferenceEngine {
        val gate = stages.filterIsInstance<Stage.Gate>().firstOrNull() ?: return engine
        return GatedEngine(engine, WindowGate(gate, manifest.buffer.samples))
    }

    /**
     * Takes in samples of the device and makes every call that is due.
     *
     * @param samples what no net may be given is replaced in place ([InputBound]).
     * @throws StreamException the stream was flushed.
     * @throws EngineException the engine failed.
     */
    fun push(
        samples: FloatArray,
        offset: Int,
        count: Int,
    ) {
        require(count <= maxBlock) { "pipeline: at most $maxBlock samples at a time, got $count" }
        door.process(samples, offset, count)
        feed(resampler.process(samples, offset, count, work))
    }

    /** Ends the stream: what is still inside comes out, what is on is closed. */
    fun flush() {
        feed(resampler.flush(work))
        loop.flush()
        tracker?.flush(loop.inSamples)
    }

    /** Begins a new stream. */
    fun reset() {
        resampler.reset()
        door.reset()
        input.reset()
        output.reset()
        loop.reset()
        tracker?.reset()
    }

    private fun feed(count: Int) {
        input.process(work, 0, count)
        output.feed(work, 0, count)
        recording?.addOriginal(work, 0, count)
        loop.push(work, 0, count)
    }

    private fun take(
        endSample: Long,
        values: FloatArray,
        count: Int,
    ) {
        if (tracker != null) {
            System.arraycopy(values, 0, scores, 0, scores.size)
            tracker.push(values, endSample)
        } else {
            output.process(values, 0, count)
            onAudio.onAudio(endSample, values, count)
        }
    }
}

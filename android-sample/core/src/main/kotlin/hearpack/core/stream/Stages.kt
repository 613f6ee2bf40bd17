package hearpack.core.stream

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.bundle.Task

/**
 * What switches a stage on.
 *
 * @property stage index of an earlier stage, a classifier.
 * @property label index of its label.
 */
data class StageGate(
    val stage: Int,
    val label: Int,
)

/**
 * One of several nets on a stream.
 *
 * @property hears index of an earlier enhancer whose sound it hears; null: the stream itself.
 * @property gate what switches it on; null: nothing, it is always on.
 */
class StageNet(
    val bundle: Bundle,
    val engine: InferenceEngine,
    val hears: Int? = null,
    val gate: StageGate? = null,
)

/** Gets what the stages give; the array is valid only during the call. */
interface StageListener {
    /** An enhancer's sound at its rate, lead-in included; [endSample] as [AudioSink] has it. */
    fun onAudio(
        stage: Int,
        endSample: Long,
        samples: FloatArray,
        count: Int,
    ) = Unit

    fun onEvent(
        stage: Int,
        event: SoundEvent,
    ) = Unit
}

/** An engine that is called only while it is on: zeros, and the reset state, while it is not. */
class SwitchedEngine(
    private val engine: InferenceEngine,
) : InferenceEngine by engine {
    private var fresh = false

    /** Whether the next call is made. */
    var on = false

    /** Calls that were not made. */
    var spared = 0L

    override fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    ) {
        if (on) {
            fresh = false
            engine.run(audio, output, from, to)
            return
        }
        spared++
        output.fill(0f)
        if (!fresh) {
            engine.reset(0)
            engine.reset(1)
        }
        fresh = true
    }
}

/**
 * Several nets on one stream, each call in an order that no partition of the input changes: streaming/core/stages.py, whose
 * rule this follows. A classifier beside an enhancer or behind it, an enhancer that a classifier switches on:
 *
 *     val stages = Stages(listOf(StageNet(voice, vad), StageNet(clean, enhancer, gate = StageGate(0, 0))), 48_000, 4096, listener)
 *     stages.push(samples, 0, count)
 *
 * Belongs to one thread; no allocation after construction but for events.
 *
 * @param rateHz rate of the blocks that are pushed.
 * @param maxBlock most samples pushed at a time.
 * @param meter of each stage's calls, those that its gate spares among them.
 * @throws IllegalArgumentException a net hears or is switched by one that is not earlier, or by one of the wrong kind.
 */
class Stages(
    private val nets: List<StageNet>,
    val rateHz: Int,
    maxBlock: Int,
    private val listener: StageListener,
    meter: (Int) -> CallMeter? = { null },
) {
    private val switches: Array<SwitchedEngine?>
    private val on = Array(nets.size) { BooleanArray(nets[it].bundle.labels.size) }
    private val pipelines: Array<Pipeline>
    private val direct = nets.indices.filter { nets[it].hears == null }.toIntArray()
    private val leadIn = IntArray(nets.size)
    private var ended = false
    private var ending = false

    init {
        require(nets.isNotEmpty()) { "stages: expected at least one net, got none" }
        nets.indices.forEach(::check)
        switches = Array(nets.size) { if (nets[it].gate == null) null else SwitchedEngine(nets[it].engine) }
        pipelines =
            Array(nets.size) {
                val source = nets[it].hears?.let { earlier -> nets[earlier].bundle.manifest }
                val heardHz = source?.geometry?.sampleRateHz ?: rateHz
                val most = source?.buffer?.samples ?: maxBlock
                val engine = switches[it] ?: nets[it].engine
                val sink = AudioSink { end, samples, count -> onAudio(it, end, samples, count) }
                Pipeline(nets[it].bundle, engine, heardHz, most, sink, { event -> onEvent(it, event) }, meter(it))
            }
        begin()
    }

    private fun check(index: Int) {
        val net = nets[index]
        net.hears?.let {
            require(it in 0 until index) { "stages: stage $index can hear stages before it only, got $it" }
            require(nets[it].bundle.manifest.task == Task.ENHANCER) { "stages: stage $it gives no sound to hear" }
        }
        net.gate?.let {
            require(it.stage in 0 until index) { "stages: stage $index can be switched by stages before it only" }
            require(it.label in nets[it.stage].bundle.labels.indices) { "stages: stage ${it.stage} has no such label" }
        }
    }

    /** Calls of a stage since reset, those that its gate spared left out. */
    fun calls(stage: Int): Long = pipelines[stage].calls - (switches[stage]?.spared ?: 0)

    /** Samples of [rateHz] that the next call of any stage waits for. */
    val missing: Int
        get() {
            var least = Int.MAX_VALUE
            for (i in direct) least = minOf(least, pipelines[i].missingAtDevice)
            return least
        }

    /** Begins a new stream. */
    fun reset() {
        for (pipeline in pipelines) pipeline.reset()
        begin()
    }

    private fun begin() {
        ended = false
        ending = false
        for (i in nets.indices) {
            on[i].fill(false)
            leadIn[i] =
                nets[i]
                    .bundle.manifest.geometry.delaySamples
            switches[i]?.let {
                it.on = false
                it.spared = 0
            }
        }
    }

    /**
     * Takes in new samples and makes every call that is due.
     *
     * @param samples what no net may be given is replaced in place.
     * @throws StreamException the stream was flushed or has failed.
     * @throws EngineException an engine failed; the stream has to be reset.
     */
    fun push(
        samples: FloatArray,
        offset: Int,
        count: Int,
    ) {
        if (ended) throw StreamException("stages: the stream was flushed or has failed; reset it before the next block")
        ended = true // should an engine fail on the way
        var taken = 0
        while (taken < count) {
            val n = minOf(count - taken, missing)
            for (i in direct) hear(i, samples, offset + taken, n)
            taken += n
        }
        ended = false
    }

    /** Ends the stream: what is still inside comes out, what is on is closed. */
    fun flush() {
        if (ended) return
        ended = true
        ending = true
        for (i in nets.indices) {
            switch(i)
            pipelines[i].flush()
        }
    }

    private fun switch(index: Int) {
        val gate = nets[index].gate ?: return
        switches[index]?.on = on[gate.stage][gate.label]
    }

    /** A block for one stage, a call at a time: what a call gives may open the gate of the next one. */
    private fun hear(
        index: Int,
        samples: FloatArray,
        offset: Int,
        count: Int,
    ) {
        var taken = 0
        while (taken < count) {
            val n = minOf(count - taken, pipelines[index].missingAtDevice)
            switch(index)
            pipelines[index].push(samples, offset + taken, n)
            taken += n
        }
    }

    private fun onAudio(
        index: Int,
        endSample: Long,
        samples: FloatArray,
        count: Int,
    ) {
        listener.onAudio(index, endSample, samples, count)
        val cut = minOf(leadIn[index], count)
        leadIn[index] -= cut
        if (cut == count) return
        for (later in index + 1 until nets.size) {
            if (nets[later].hears == index) hear(later, samples, cut, count - cut)
        }
    }

    private fun onEvent(
        index: Int,
        event: SoundEvent,
    ) {
        if (!ending) on[index][event.index] = event.offsetSample == null
        listener.onEvent(index, event)
    }
}

package hearpack.tests

import hearpack.core.audio.Monitoring
import hearpack.core.audio.Muted
import hearpack.core.audio.OutputBuffer
import hearpack.core.audio.OutputDevice
import hearpack.core.audio.PlaybackGate
import hearpack.core.audio.Port
import hearpack.core.audio.outputOf
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue

/** Where an enhancer may be heard while it records. The numbers are AudioDeviceInfo's. */
class OutputTest {
    private fun guard(
        vararg types: Int,
        answers: Map<String, Boolean> = emptyMap(),
    ) = outputOf(listOf(1, 2, *types.toTypedArray()).map { OutputDevice(it, "x") }, answers)

    @Test fun whatIsOneForSureIsAllowed() {
        for (type in listOf(3, 4, 22, 23, 26)) assertEquals(Monitoring.ALLOWED, guard(type).monitoring, "$type")
        assertEquals(Port.HEARING_AID, guard(23).port)
    }

    @Test fun aBluetoothLoudspeakerWithHandsFreeIsAsked() {
        val both = guard(7, 8)
        assertEquals(Monitoring.ASK, both.monitoring)
        assertEquals(Port.BLUETOOTH_A2DP to 8, both.port to both.device?.type)
        assertEquals(Monitoring.ALLOWED, guard(7, 8, answers = mapOf("8 x" to true)).monitoring)
        assertEquals(Monitoring.REFUSED, guard(7, 8, answers = mapOf("8 x" to false)).monitoring)
    }

    @Test fun aHandsFreeLinkAloneCarriesNoMedia() = assertEquals(Port.BUILT_IN, guard(7).port)

    @Test fun soundCardsAreAskedAndLoudspeakersRefused() {
        for (type in listOf(11, 12)) assertEquals(Monitoring.ASK, guard(type).monitoring, "$type")
        for (type in listOf(5, 6, 9, 10, 13, 14, 19, 21, 27, 29, 30, 99)) {
            assertEquals(Monitoring.REFUSED, guard(type).monitoring, "$type")
        }
        assertEquals(Monitoring.REFUSED, guard().monitoring)
    }

    @Test fun ofSeveralTheWorstCounts() {
        assertEquals(Monitoring.REFUSED, guard(3, 9).monitoring)
        assertEquals(Monitoring.ASK, guard(3, 8).monitoring)
    }

    @Test fun soundIsHeardOnlyWithHeadsetFocusAndNothingUnplugged() {
        val told = mutableListOf<Muted?>()
        val gate = PlaybackGate(told::add)
        assertEquals(Muted.ROUTE, gate.muted)
        gate.focus(true)
        gate.route(Monitoring.ALLOWED)
        assertEquals(null, gate.muted)
        gate.becomingNoisy()
        assertEquals(Muted.NOISY, gate.muted)
        gate.route(Monitoring.REFUSED)
        assertEquals(Muted.ROUTE, gate.muted)
        gate.route(Monitoring.ASK)
        gate.route(Monitoring.ALLOWED)
        gate.focus(false)
        gate.focus(true)
        assertEquals(listOf(null, Muted.NOISY, Muted.ROUTE, null, Muted.FOCUS, null), told)
    }

    @Test fun theSystemsBufferIsAsSmallAsItRunsWith() {
        val buffer = OutputBuffer(192, 960)
        assertEquals(384, buffer.frames)
        assertFalse(buffer.ranDry(0))
        assertTrue(buffer.ranDry(1))
        assertEquals(576, buffer.frames)
        assertFalse(buffer.ranDry(1))
        repeat(5) { buffer.ranDry(2 + it) }
        assertEquals(960, buffer.frames)
    }
}

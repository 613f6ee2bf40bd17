package hearpack.app

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.IBinder

/** Keeps the microphone while the app is not on the screen; the manifest gives it the type `microphone`. */
class StreamService : Service() {
    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(
        intent: Intent?,
        flags: Int,
        startId: Int,
    ): Int {
        val controller = (application as HearpackApp).controller
        if (intent?.action == STOP) {
            controller.stop()
            return START_NOT_STICKY
        }
        val manager = getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager
        val name = getString(R.string.channel)
        manager.createNotificationChannel(NotificationChannel(CHANNEL, name, NotificationManager.IMPORTANCE_LOW))
        val open = Intent(this, MainActivity::class.java)
        val stop = Intent(this, StreamService::class.java).setAction(STOP)
        val stopping = PendingIntent.getService(this, 0, stop, PendingIntent.FLAG_IMMUTABLE)
        val icon = Icon.createWithResource(this, R.drawable.ic_mic)
        val notification =
            Notification
                .Builder(this, CHANNEL)
                .setSmallIcon(R.drawable.ic_mic)
                .setContentTitle(getString(R.string.app_name))
                .setContentText(getString(R.string.notification))
                .setContentIntent(PendingIntent.getActivity(this, 0, open, PendingIntent.FLAG_IMMUTABLE))
                .addAction(Notification.Action.Builder(icon, getString(R.string.stop), stopping).build())
                .setOngoing(true)
                .build()
        startForeground(NOTIFICATION, notification)
        controller.begin()
        return START_NOT_STICKY
    }

    /** The app was swiped away: nobody wants to be recorded any more. */
    override fun onTaskRemoved(rootIntent: Intent?) = (application as HearpackApp).controller.stop()

    override fun onDestroy() {
        (application as HearpackApp).controller.stop()
        super.onDestroy()
    }

    private companion object {
        const val CHANNEL = "stream"
        const val NOTIFICATION = 1
        const val STOP = "hearpack.app.STOP"
    }
}
